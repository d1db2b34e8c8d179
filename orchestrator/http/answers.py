"""What people answer, nobody says in their place."""

from collections.abc import Iterable
from typing import Any

from orchestrator.client.run_handle import RunHandle
from orchestrator.core.access import Role
from orchestrator.engine.signals import approvals
from orchestrator.errors import Forbidden
from orchestrator.http.caller import Caller


def check_answers(caller: Caller, run: "RunHandle[Any]", steps: Iterable[str]) -> None:
    """
    Raises:
        Forbidden: one of these steps is an approval, or holds one, and the caller is no admin: marked, skipped or taken
            over to another input, it would count as the answer of whom it asks.
    """
    if caller.grant.role is Role.ADMIN:
        return
    found = run.client.call(approvals.first_asking, run.id, steps)
    if found is not None:
        raise Forbidden(
            f"Step {found} asks somebody, and {caller.name} would answer in their place. Fix: let them answer, or an "
            "admin do this.",
            needed=str(Role.ADMIN),
        )
