"""A new run is made of one that there was: all of it, or from a step on with the outputs before it kept."""

import json
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import StartedRun, StartRequest
from orchestrator.core.happened import Operated, Refused, RunOf
from orchestrator.core.plan import Plan
from orchestrator.core.rerun import Before, Rerun, changed_fields, check_step, rerun
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import accept
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.notifying import notify_started
from orchestrator.errors import Conflict, OrchestratorError
from orchestrator.ledger import controls, graph, reads, reruns
from orchestrator.ledger.reruns import Source
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

TRIGGER = "rerun"
"""What starts such a run."""


@dataclass(frozen=True, slots=True)
class Again:
    """Which run, from which step on (None: all of it), and with which input (JSON text; None: its own)."""

    run_id: UUID
    step: str | None = None
    body: str | None = None


def start(ledger: Ledger, again: Again, *, by: str) -> StartedRun:
    """Start it: whole on the flow's current version; from a step on, on the version that the run is pinned to. Input
    and headers are those of the run, unless another input is given. The idempotency key is never taken over, and those
    of the steps are new.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
        UsageError: the step is inside a loop.
        Conflict: something is to be kept of a run that has not ended.
        FlowNotFound, FlowDisabled, InputInvalid: as for any start.
    """
    flow = reads.runs.get(ledger, again.run_id).flow
    fp("start.before")
    try:
        run, started = ledger.retry(lambda tx: _start_in(ledger, tx, again, by))
    except OrchestratorError as exc:
        notify(Refused("start", exc.code, flow))
        raise
    fp("start.committed")
    notify(Operated("rerun"))
    notify_started(run, started)
    return started


def foresee(ledger: Ledger, again: Again) -> Rerun:
    """What `start` would keep and run; nothing is written.

    Raises: as `start`, but FlowDisabled.
    """

    def read(tx: Connection) -> Rerun:
        source = reruns.hold(tx, again.run_id)
        version = source.manifest_hash if again.step else reads.flows.get(ledger, source.flow).manifest_hash
        target = ledger.plan(version)
        given = target.inputs.read(again.body or source.body, ledger.names_of(target.manifest))
        return _decide(ledger, tx, source, again, target, given.value)

    return ledger.retry(read)


def _start_in(ledger: Ledger, tx: Connection, again: Again, by: str) -> tuple[RunOf, StartedRun]:
    source = reruns.hold(tx, again.run_id)
    _check(ledger, source, again)
    graph.take_time(tx)
    request = StartRequest(
        source.flow,
        again.body or source.body,
        tags=source.tags,
        trigger=TRIGGER,
        headers=source.headers,
        version=source.manifest_hash if again.step else None,
    )
    held, given = accept.accept_in(ledger, tx, request)
    kept = _decide(ledger, tx, source, again, held.plan, given.value)
    reruns.keep(tx, held.id, source.id, kept, step=again.step, by=by)
    fp("rerun.kept")
    opened = advance.open_run(held, kept.states)
    return RunOf(held.id, source.flow, TRIGGER), StartedRun(held.id, True, opened.dispatches, opened)


def _decide(ledger: Ledger, tx: Connection, source: Source, again: Again, target: Plan, given: object) -> Rerun:
    _check(ledger, source, again)
    states = controls.step_states(tx, source.id) if again.step else {}
    changed = changed_fields(json.loads(source.body), given) if again.body else frozenset()
    return rerun(Before(ledger.plan(source.manifest_hash), states), target, again.step, changed)


def _check(ledger: Ledger, source: Source, again: Again) -> None:
    """Whether there is something to keep."""
    if again.step is None:
        return
    check_step(ledger.plan(source.manifest_hash), again.step)
    if source.status not in FINAL_RUN:
        raise Conflict(
            f"Run {source.id} is {source.status}, and outputs are kept of a run that has ended. Fix: wait for its end, "
            f"or `orchestrator run cancel {source.id}`.",
            run_id=str(source.id),
            status=source.status.value,
        )
