"""Starting, cancelling and explaining runs."""
