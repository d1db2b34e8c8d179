"""Gauges of the whole installation, read from the ledger when somebody scrapes them."""
