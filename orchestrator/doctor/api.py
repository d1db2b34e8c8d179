"""Checks of an installation that is reached by its API: what that is let see."""

from collections.abc import Callable
from typing import Any, Final

from orchestrator.client.remote.client import HttpClient
from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.workers import nobody, of_queues
from orchestrator.errors import OrchestratorError

_FIXES: Final = "run `orchestrator doctor` where the database and the broker can be reached: it says more."


def examine_api(client: HttpClient) -> list[Finding]:
    """Every finding, in order. A check that cannot run is itself a finding; nothing is raised."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            found += check(client)
        except OrchestratorError as exc:
            finding, _, fix = exc.message.partition(" Fix: ")
            found.append(failed(name, finding, fix))
    return found


def api(client: HttpClient) -> list[Finding]:
    """It answers, and what it needs stands."""
    health = client.health()
    found = [passed("api", f"{client.transport.url} answers")]
    for part, check in health["checks"].items():
        if part == "workers":  # of which their own check says more
            continue
        up, name = check["status"] != "down", part.replace("_", " ")
        found.append(passed(name, check["detail"]) if up else failed(name, check["detail"], _FIXES))
    return found


def key(client: HttpClient) -> list[Finding]:
    """It lets us in."""
    me: dict[str, Any] = client.transport.get(dict[str, Any], "/whoami")
    limits = ", ".join([*me["scopes"], *(f"flow {flow}" for flow in me["flows"])])
    return [passed("key", f"{me['name']}, {me['role']}{f', for {limits} only' if limits else ''}")]


def workers(client: HttpClient) -> list[Finding]:
    """Some are there, and messages reach them."""
    known = client.workers.listed()
    live = [row for row in known if row.live and not row.is_keeper]
    if not live:
        return nobody(known)
    deaf = [row.id for row in live if row.consumed_at is None]
    if deaf:
        fix = "restart them if this lasts: they are connected, and take no messages."
        return [warned("workers", f"{len(deaf)} of {len(live)} take no messages: {', '.join(deaf)}", fix)]
    return [passed("workers", f"{len(live)} live, all take messages")]


def queues(client: HttpClient) -> list[Finding]:
    """Every ready step has a live worker that can run it."""
    return of_queues(client.workers.unserved())


CHECKS: Final[dict[str, Callable[[HttpClient], list[Finding]]]] = {
    "api": api,
    "key": key,
    "workers": workers,
    "queues": queues,
}
