"""What runs inside a Celery process: the app, one task per step type, the keeper, the heartbeat.

`celery -A workers worker` finds `app` here; a plain `import workers` builds nothing.
"""


def __getattr__(name: str) -> object:
    if name == "app":
        from workers.celery_app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
