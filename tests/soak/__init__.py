"""Random flows on real workers under random faults, and what the checker says of it."""
