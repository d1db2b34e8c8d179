"""Sending committed dispatches: the message, the publisher, and a client's sender."""
