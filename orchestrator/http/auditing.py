"""What operators do over HTTP, in the audit. What changes access, flows and schedules, or tells secrets, is kept by the
engine."""

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from orchestrator.core.access import Act, Role, Scope
from orchestrator.engine.access import audit
from orchestrator.errors import OrchestratorError
from orchestrator.http.caller import Caller, client_of
from orchestrator.http.policy import rule_of
from orchestrator.observe.logs import log

_SENSITIVE: Final = frozenset({"step_mark", "step_skip"})
"""Besides everything that takes an admin: what changes how others' runs go."""
_BY_ENGINE: Final = {Scope.ACCESS, Scope.SECRETS, Scope.SCHEDULES}
_KEPT_BY_ENGINE: Final = frozenset(f"subscription_{what}" for what in ("create", "update", "rotate", "delete"))
"""Takes an admin, and is kept in the commit that does it, without the secrets that addresses may hold."""
_LONGEST: Final = 4096
_VALUES: Final = frozenset({"changes", "input", "output", "payload"})
"""What is of runs, and may be a secret."""


def is_kept(operation: str, method: str) -> bool:
    """Whether a row is to be kept of it here."""
    if method in {"GET", "HEAD"} or operation in _KEPT_BY_ENGINE:
        return False
    rule = rule_of(operation)
    return operation in _SENSITIVE or (rule.role is Role.ADMIN and rule.scope not in _BY_ENGINE)


async def keep(request: Request, operation: str, answer: Response, body: Any) -> None:
    """Keep what was done and was not refused. If the ledger is lost in between, the log has it."""
    caller: Caller = request.state.caller
    if answer.status_code >= 400:
        return
    asked = {name: value for name, value in body.items() if name not in _VALUES} if isinstance(body, dict) else {}
    asked = asked if len(json.dumps(asked)) <= _LONGEST else {"reason": asked.get("reason")}
    target = request.url.path.partition("/api/")[2]
    action, reason = operation.replace("_", ".", 1), _reason(asked)
    client = await client_of(request)
    try:
        act = Act(action, target, became=asked or None, reason=reason)
        await run_in_threadpool(client.call_once, audit.keep, caller.actor(request), act)
    except OrchestratorError as exc:
        facts = {"caller": caller.name, "action": action, "target": target, "reason": reason, "error": str(exc)}
        log.error("api.audit_lost", extra=facts)


def _reason(asked: Mapping[str, Any]) -> str | None:
    found = asked.get("reason")
    return found if isinstance(found, str) else None
