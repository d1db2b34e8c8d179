"""How many messages lie in the broker. They are hints: what is ready is in the ledger."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import redis

from orchestrator.errors import OrchestratorError
from orchestrator.servers.broker import PRIORITY_STEPS
from orchestrator.servers.diagnosis import one_line
from orchestrator.servers.redis_client import broker_client
from orchestrator.settings import Settings

log = logging.getLogger(__name__)

ANSWERS_S: Final = 0.5
_SEPARATOR: Final = "\x06\x16"
"""Kombu's, between a queue and the priority of a list."""


def depths(settings: Settings, queues: Sequence[str]) -> Mapping[str, int] | None:
    """By queue; None: the broker does not answer within a second or so."""
    keys = {queue: [f"{settings.key_prefix}{name}" for name in _lists(queue)] for queue in queues}
    try:
        with broker_client(settings, socket_timeout=ANSWERS_S, socket_connect_timeout=ANSWERS_S) as client:
            asked = client.pipeline(transaction=False)
            for key in (key for of_queue in keys.values() for key in of_queue):
                asked.llen(key)
            found = iter(asked.execute())
    except (redis.RedisError, OSError, OrchestratorError) as exc:
        log.warning("queues.unknown", extra={"error": one_line(exc)[:500]})
        return None
    return {queue: sum(int(next(found)) for _ in of_queue) for queue, of_queue in keys.items()}


def _lists(queue: str) -> list[str]:
    """One for each priority."""
    return [queue if not step else f"{queue}{_SEPARATOR}{step}" for step in PRIORITY_STEPS]
