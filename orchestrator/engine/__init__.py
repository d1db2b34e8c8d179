"""One module per use case, one function per commit. Knows nothing of Celery or Redis."""
