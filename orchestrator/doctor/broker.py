"""Checks of Redis or Valkey."""

from typing import Any

import redis

from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.ground import Ground
from orchestrator.servers.diagnosis import broker_fix, one_line


def broker(ground: Ground) -> list[Finding]:
    """It answers."""
    if ground.broker is None:
        return [failed("broker", ground.broker_problem, ground.broker_fix)]
    about = ground.broker.info("server")
    name = "Valkey" if "valkey_version" in about else "Redis"
    return [passed("broker", f"{name} {about.get('valkey_version') or about.get('redis_version')} answers")]


def writes(ground: Ground) -> list[Finding]:
    """It takes messages."""
    if ground.broker is None:
        return []
    try:
        ground.broker.set(f"{ground.settings.key_prefix}doctor", "1", ex=1)
    except redis.ResponseError as exc:
        reason = one_line(exc)
        return [failed("broker writes", reason, broker_fix(reason))]
    return [passed("broker writes", "it takes messages")]


def eviction(ground: Ground) -> list[Finding]:
    """A full server refuses writes instead of dropping messages."""
    if ground.broker is None:
        return []
    policy = ground.broker.info("memory").get("maxmemory_policy")
    if policy == "noeviction":
        return [passed("broker eviction", "maxmemory-policy is noeviction")]
    fix = "set `maxmemory-policy noeviction`: an evicted key of a queue is thousands of lost messages."
    return [failed("broker eviction", f"maxmemory-policy is {policy}", fix)]


def persistence(ground: Ground) -> list[Finding]:
    """A restart does not empty the queues. The ledger would send all of it again, only later."""
    if ground.broker is None:
        return []
    log = ground.broker.info("persistence").get("aof_enabled") in (1, "1")
    snapshots = _setting(ground.broker, "save")
    if log or snapshots:
        return [passed("broker persistence", "append-only file" if log else f"snapshots ({snapshots})")]
    unknown = snapshots is None
    said = "off" if not unknown else "no append-only file; the snapshots cannot be read here"
    return [warned("broker persistence", said, "set `appendonly yes`, so that a restart keeps the queues.")]


def _setting(client: Any, name: str) -> str | None:
    """A setting of the server; None where a hosted one hides them."""
    try:
        found: str = client.config_get(name).get(name, "")
        return found
    except redis.ResponseError:
        return None


CHECKS = (broker, writes, eviction, persistence)
