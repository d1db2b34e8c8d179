"""Enable and disable flows. Runs in flight go on; schedules stop and start with their flow."""

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor
from orchestrator.core.happened import Operated
from orchestrator.engine.schedules.changes import going_on, stopped
from orchestrator.ledger import access, definitions, schedules, ticks
from orchestrator.ledger.ticks import Stored
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify


def disable(ledger: Ledger, flow: str, by: str | Actor, reason: str | None = None) -> None:
    """Every trigger of the flow is refused from now on, and its schedules do not fire.

    Raises:
        FlowNotFound: no such flow.
    """
    _switch(ledger, flow, False, Actor.of(by), reason)


def enable(ledger: Ledger, flow: str, by: str | Actor) -> None:
    """Triggers are accepted again; schedules fire from the first time after now.

    Raises:
        FlowNotFound: no such flow.
    """
    _switch(ledger, flow, True, Actor.of(by), None)


def _switch(ledger: Ledger, flow: str, enabled: bool, by: Actor, reason: str | None) -> None:
    def work(tx: Connection) -> None:
        definitions.hold(tx, flow)
        was = definitions.switched(tx, flow)
        if was is None or not definitions.switch(tx, flow, enabled=enabled, by=by.name, reason=reason):
            raise definitions.unknown_flow(tx, flow)
        became = {"enabled": enabled, "reason": reason}
        action = "enable" if enabled else "disable"
        access.audit(tx, by, Act(f"flow.{action}", f"flow/{flow}", was=was, became=became, reason=reason))
        ticks.hold_all(tx, flow)
        for row in schedules.of_flow(tx, flow):
            if not row.active:
                continue
            if not enabled:
                ticks.put(tx, stopped(tx, row, "operator"))
            elif row.next_tick_at is None:  # what fires already goes on
                ticks.put(tx, going_on(Stored.of(row), row.settled_until, enabled=True))

    ledger.retry(work)
    notify(Operated("flow.enable" if enabled else "flow.disable"))
