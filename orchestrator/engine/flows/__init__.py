"""Definitions: who registers one, and whether it takes triggers."""
