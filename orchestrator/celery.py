"""`celery -A orchestrator worker|beat|flower` finds its app here. A plain `import orchestrator` does not build it."""

from orchestrator.workers.app.celery_app import default_app

app = default_app()
