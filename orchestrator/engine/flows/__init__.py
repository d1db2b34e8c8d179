"""Definitions: registering them, and whether they take triggers."""
