"""Deliveries of webhooks: received, kept, replayed."""
