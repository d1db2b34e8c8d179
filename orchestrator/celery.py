"""`celery -A orchestrator worker|beat|flower` finds its app here. A plain `import orchestrator` does not build it."""

import sys
from pathlib import Path

_path = list(sys.path)
# Celery puts the current folder first while it looks for an app, and a project may have a `redis.py` of its own there.
sys.path[:] = [entry for entry in _path if Path(entry or ".").resolve() != Path.cwd()]
try:
    from orchestrator.workers.app.celery_app import default_app

    app = default_app()
finally:
    sys.path[:] = _path
