"""Durable flows of typed Python steps on Celery workers."""
