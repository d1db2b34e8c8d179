"""Checks of schedules: who announces ticks, and whether they are fired."""

import redis

from orchestrator.core.durations import format_duration
from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.ground import Ground
from orchestrator.ledger import schedules as stored
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.servers import redbeat
from orchestrator.servers.diagnosis import one_line


def beat(ground: Ground) -> list[Finding]:
    """A beat announces ticks, so that they are on time."""
    live = _live(ground)
    if not live or ground.settings.broker_url is None:
        return []
    client = redbeat.client(ground.settings)
    try:
        found = client.get(redbeat.lock_key(ground.settings))
    except (redis.RedisError, OSError) as exc:
        return [failed("beat", f"RedBeat's Redis does not answer: {one_line(exc)}", "act on this message.")]
    finally:
        client.close()
    if found is None:
        late = format_duration(ground.settings.watchdog_interval + ground.settings.tick_grace)
        said = f"no beat runs; workers fire the {len(live)} schedules up to {late} late"
        return [warned("beat", said, "start one, better two: `orchestrator beat`.")]
    return [passed("beat", f"{found!s} announces {len(live)} schedules")]


def late(ground: Ground) -> list[Finding]:
    """What is due is fired; the workers do that."""
    live = _live(ground)
    if not live:
        return []
    settings = ground.settings
    limit = 2 * (settings.watchdog_interval + settings.tick_grace)
    found = [row for row in live if row.due_at is not None and row.now - row.due_at > limit]
    if not found:
        return [passed("schedules", f"{len(live)} active, none is late")]
    first = min(found, key=lambda row: row.due_at or row.now)
    said = f"{len(found)} of {len(live)} are late; {first.name} has been due since {first.due_at:%Y-%m-%d %H:%M:%S} UTC"
    return [failed("schedules", said, "start a worker: `orchestrator worker --flows MODULE`; any of them fires all.")]


def _live(ground: Ground) -> list[ScheduleRow]:
    if ground.ledger is None or not ground.is_migrated:
        return []
    with ground.ledger.tx() as tx:
        return [row for row in stored.schedules(tx) if row.live]


CHECKS = (beat, late)
