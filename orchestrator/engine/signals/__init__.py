"""Signals: what is sent to runs, and the steps that wait for it."""
