"""Flows to read, run and copy. Part of the checkout, not of the wheel."""
