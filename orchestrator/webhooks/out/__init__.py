"""Webhooks out, the part that speaks to others: one message to one target, once. When it is sent, and again, is the
engine's business. Needs the extra `webhooks` for HTTP."""
