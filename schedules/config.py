"""How Celery gets to know our beat."""

from typing import Any

from orchestrator.servers.redbeat import prefix, url
from orchestrator.settings import Settings
from orchestrator.settings.urls import mask_url


def beat_config(settings: Settings) -> dict[str, Any]:
    """The part of `app.conf` that is about beat and RedBeat.

    The URL has no password here, because Celery prints settings that it does not know; the scheduler makes its own
    client.
    """
    return {
        "beat_scheduler": "orchestrator.schedules.beat:LedgerScheduler",
        "beat_schedule": {},  # every standby would write it before it has the lock
        "beat_max_loop_interval": settings.beat_interval.total_seconds(),
        "redbeat_redis_url": mask_url(url(settings)),
        "redbeat_redis_options": {},
        "redbeat_key_prefix": prefix(settings),
        "redbeat_lock_key": None,  # RedBeat would end the process that loses its lock; ours stands by
        "redbeat_lock_timeout": settings.beat_lock.total_seconds(),
    }
