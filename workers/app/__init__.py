"""Celery's side: the app and its configuration, one task per step type, what a worker checks before it starts."""
