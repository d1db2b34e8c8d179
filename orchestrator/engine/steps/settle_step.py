"""An operator settles a step that nobody holds: it is skipped, or it is done, with this output."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NoReturn

from sqlalchemy import Connection

from orchestrator.core import values
from orchestrator.core.facts import Dispatch, Finished
from orchestrator.core.happened import RunOf
from orchestrator.core.plan import Node, Plan
from orchestrator.core.reopen import compensated, reopen, sinks_open
from orchestrator.core.schemas import misfit
from orchestrator.core.settling import Settle
from orchestrator.core.signals import awaited
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent, StepKind, StepStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.errors import Conflict, OutputInvalid, StepNotFound
from orchestrator.ledger import controls, graph, signals
from orchestrator.ledger.tx import Ledger

_REOPENED: Final = {
    StepEvent.SKIP: frozenset({StepStatus.FAILED, StepStatus.CANCELLED}),
    StepEvent.MARK: frozenset({StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED}),
}
"""Steps that ended and are settled after all: their run is opened again, as by a retry."""


def settle(ledger: Ledger, asked: Settle) -> tuple[Dispatch, ...]:
    """End the step, and advance its run. A step that failed or was cancelled is settled in a new epoch of the run.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
        Conflict: a worker has the step, it is done, or its run is being stopped.
        OutputInvalid: the ledger cannot hold the output, or it is not a list and the step is a loop.
    """

    def work(tx: Connection) -> tuple[RunOf, Finished]:
        held = HeldRun.lock(ledger, tx, asked.run_id, against_claims=True)
        graph.take_time(tx)
        node = _node(held.plan, asked.step_key)
        if "." in asked.step_key and (node.is_item or node.loop not in held.plan.nodes):
            _refuse(asked, "it runs for an item of a loop", "retry it, or settle the loop")
        opened = _opened(held, node, asked)
        _check_output(node, asked)
        return RunOf(held.id, held.run.flow, held.run.trigger), _settled(opened, asked)

    fp("settle.before")
    run, finished = ledger.retry(work)
    fp("settle.committed")
    notify_followed(run, finished)
    return finished.dispatches


def _opened(held: HeldRun, node: Node, asked: Settle) -> HeldRun:
    """The run with the step in a state that it can be settled from, and counted as one that is about to end."""
    if held.run.halt is not None and held.run.status not in FINAL_RUN:
        _refuse(asked, "its run is being stopped", "wait until it has ended")
    status = graph.statuses(held.tx, held.id, [asked.step_key]).get(asked.step_key)
    if status is None:
        _unknown(held.plan, asked.step_key)
    if status in _REOPENED[asked.event] and held.run.status is not RunStatus.SUCCEEDED:
        return _reopened(held, node, asked)
    _check_status(node, status, asked)
    if status is StepStatus.BLOCKED:
        states = controls.step_states(held.tx, held.id)
        if any(states[node.key] is StepStatus.BLOCKED for node in held.plan.roots()):
            _refuse(asked, "its run begins later", f"wait for it, or `orchestrator run cancel {asked.run_id}`")
        _count_loose(held, states, {**states, asked.step_key: StepStatus.READY})
    return held


def _count_loose(held: HeldRun, before: Mapping[str, StepStatus], after: Mapping[str, StepStatus]) -> None:
    """What is before the step has nobody waiting any more: its end counts for the end of the run."""
    more = sinks_open(held.plan, after) - sinks_open(held.plan, before)
    graph.count_run(held.tx, held.id, sinks=-more, failures=0, error=None)


def _reopened(held: HeldRun, node: Node, asked: Settle) -> HeldRun:
    if node.loop is not None:
        _refuse(asked, f"it is an item of the loop {node.loop}", f"retry it, or settle {node.loop}")
    key, plan, tx = asked.step_key, held.plan, held.tx
    states = controls.step_states(tx, held.id)
    reset = reopen(plan, states, {key}, {key} | controls.opened_loops(tx, held.id, plan.nodes))
    if done := compensated(plan, states, reset.waits):
        _refuse(asked, f"step {' and '.join(done)} makes up for its failure, and that is not taken back")
    # Only the step itself leaves BLOCKED now: what it lets go, and what was let go before, goes with the ends to come.
    counted = {**states, **dict.fromkeys(reset.waits, StepStatus.BLOCKED), key: StepStatus.READY}
    reset = replace(reset, sinks_open=sinks_open(plan, counted))
    error = graph.failure(tx, held.id, reset.failed[0]) if reset.failed else None
    controls.reopen_run(tx, held.id, reset, error=error, by=asked.by, steps=[key])
    controls.reset_blocked(tx, held.id, reset.waits)
    return replace(held, run=replace(held.run, status=RunStatus.RUNNING, halt=None))


def _settled(held: HeldRun, asked: Settle) -> Finished:
    controls.settle_step(held.tx, asked)
    if held.plan.node(asked.step_key).kind is StepKind.WAIT:
        signals.close(held.tx, held.id, asked.step_key)
    fp("settle.ended")
    skipped = asked.output is None
    finished = advance.after(held, {asked.step_key: StepStatus.SKIPPED if skipped else StepStatus.SUCCEEDED})
    return replace(finished, skipped=(held.step(asked.step_key), *finished.skipped)) if skipped else finished


# ---- what is refused ----


def _node(plan: Plan, step_key: str) -> Node:
    loop, dot, _ = step_key.partition(".")
    if loop not in plan.nodes or (dot and not plan.nodes[loop].is_loop):
        _unknown(plan, step_key)
    try:
        return plan.node(step_key)
    except KeyError:
        _unknown(plan, step_key)


def _unknown(plan: Plan, step_key: str) -> NoReturn:
    raise StepNotFound(
        f"The run has no step {step_key!r}. Fix: {did_you_mean(step_key, plan.nodes)}", step_key=step_key
    )


def _check_status(node: Node, status: StepStatus, asked: Settle) -> None:
    """Whether nobody has it, and it is not over."""
    show = f"see `orchestrator run show {asked.run_id}`"
    match status:
        case StepStatus.RUNNING if node.kind is StepKind.TASK:
            _refuse(asked, "a worker has it", f"wait for it, or first `orchestrator run cancel {asked.run_id}`")
        case StepStatus.RUNNING:
            _refuse(asked, "it is under way", f"settle what it waits for, or `orchestrator run cancel {asked.run_id}`")
        case StepStatus.BLOCKED if node.loop is not None:
            _refuse(asked, f"it waits for a place in the loop {node.loop}", "wait until it is ready")
        case StepStatus.BLOCKED | StepStatus.READY | StepStatus.WAITING:
            if node.loop is not None and asked.output is None:
                _refuse(asked, f"the loop {node.loop} needs a result of each item", "mark it, with an output")
        case _:
            _refuse(asked, f"it is {status}", show)


def _check_output(node: Node, asked: Settle) -> None:
    if asked.output is None:
        return
    value = values.loads(asked.output)
    refused = values.refusal(value) if values.suspect(asked.output) else None
    if refused is not None:
        raise OutputInvalid(
            f"The output of step {asked.step_key} holds at `{refused.place}` {refused.problem}, which cannot be "
            "stored. Fix: replace or remove it.",
            step=asked.step_key,
            path=refused.place,
        )
    wait = awaited(node.key, node.definition)
    error = misfit(json.dumps(wait.form, sort_keys=True), value) if wait is not None else None
    if wait is not None and error is not None:
        raise OutputInvalid(
            f"The output of {asked.step_key} is not what {wait.what} may be: {error.message}. Fix: correct it.",
            step=asked.step_key,
            path=values.show_path(error.path),
        )
    if node.is_loop and not isinstance(value, list):
        raise OutputInvalid(
            f"The output of {asked.step_key} is not a list, and that of a loop is one. Fix: give the list of the "
            "results of its items.",
            step=asked.step_key,
            path="",
        )


def _refuse(asked: Settle, why: str, fix: str | None = None) -> NoReturn:
    what = "skipped" if asked.output is None else "marked as done"
    raise Conflict(
        f"Step {asked.step_key} of run {asked.run_id} cannot be {what}: {why}. "
        f"Fix: {fix or f'see `orchestrator run show {asked.run_id}`'}.",
        run_id=str(asked.run_id),
    )
