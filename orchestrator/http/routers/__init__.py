"""One module per resource. A route parses, calls one function, and renders."""
