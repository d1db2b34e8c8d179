"""An order: which effects happen exactly once, and what makes them."""
