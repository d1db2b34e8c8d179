"""An operator settles a step that nobody holds: it is skipped, or it is done, with this output."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, NoReturn

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core import values
from orchestrator.core.facts import Dispatch, Finished
from orchestrator.core.happened import Operated, RunOf
from orchestrator.core.plan import Node, Plan
from orchestrator.core.reopen import Reset, compensated, reopen, sinks_open
from orchestrator.core.schemas import misfit
from orchestrator.core.settling import Settle
from orchestrator.core.signals import awaited
from orchestrator.core.states import FINAL_RUN, FINAL_STEP, RunStatus, StepEvent, StepKind, StepStatus, target
from orchestrator.core.suggest import did_you_mean
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, reopening
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.steps.reopening import Resetting
from orchestrator.engine.steps.retrying import How, Reopened
from orchestrator.engine.steps.wholes import Whole
from orchestrator.errors import Conflict, ManifestInvalid, OutputInvalid, StepNotFound
from orchestrator.ledger import controls, graph, signals
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

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
        if node.is_item:
            _refuse(asked, f"it is an item of the loop {node.loop}", f"settle a step of it, or {node.loop}")
        status = _status(held, node, asked)
        _check_output(held, node, asked)
        if status not in _REOPENED[asked.event]:
            return held.as_fact(), _settled(held, asked)
        again = _of_an_item if "." in asked.step_key else _of_the_run
        return held.as_fact(), again(held, node, asked)

    fp("settle.before")
    run, finished = ledger.retry(work)
    fp("settle.committed")
    notify(Operated(asked.event.value))
    notify_followed(run, finished)
    return finished.dispatches


def _status(held: HeldRun, node: Node, asked: Settle) -> StepStatus:
    """Where the step stands, from where it may be settled. One that still waits is counted as about to end."""
    key = asked.step_key
    if held.run.halt is not None and held.run.status not in FINAL_RUN:
        _refuse(asked, "its run is being stopped", "wait until it has ended")
    around = _around(key)
    states = graph.statuses(held.tx, held.id, [*around, key])
    item = states.get(around[-1]) if around else None
    if key not in states and item is not StepStatus.BLOCKED:
        _unknown(held.plan, key)
    status = states.get(key, StepStatus.BLOCKED)
    if status in _REOPENED[asked.event] and held.run.status is not RunStatus.SUCCEEDED:
        _check_around(asked, {one: states[one] for one in around if one in states})
        return status
    _check_status(node, status, asked)
    if item is StepStatus.BLOCKED or (node.loop is not None and status is StepStatus.BLOCKED):
        _refuse(asked, f"its item waits for a place in the loop {node.loop or around[-2]}", "wait until it is let in")
    if status is StepStatus.BLOCKED:
        _count_loose(held, asked)
    return status


def _around(step_key: str) -> list[str]:
    """The loops and items that a step stands in, the outermost first."""
    parts = step_key.split(".")[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _count_loose(held: HeldRun, asked: Settle) -> None:
    """What is before the step has nobody waiting any more: its end counts for the end of the run, or of the item."""
    whole = Whole.around(held, asked.step_key)
    if not whole.item and any(whole.states[node.key] is StepStatus.BLOCKED for node in held.plan.roots()):
        _refuse(asked, "its run begins later", f"wait for it, or `orchestrator run cancel {asked.run_id}`")
    after = {**whole.states, asked.step_key: StepStatus.READY}
    whole.count(held, sinks_open(whole.graph, after) - sinks_open(whole.graph, whole.states))


def _of_the_run(held: HeldRun, node: Node, asked: Settle) -> Finished:
    """A step that had ended."""
    key, plan, tx = asked.step_key, held.plan, held.tx
    states = controls.step_states(tx, held.id)
    reset = reopen(plan, states, {key}, {key} | controls.opened_loops(tx, held.id, plan.nodes))
    _check_uncompensated(asked, compensated(plan, states, reset.waits))
    # Only the step itself leaves BLOCKED now: what it lets go, and what was let go before, goes with the ends to come.
    counted = {**states, **dict.fromkeys(reset.waits, StepStatus.BLOCKED), key: StepStatus.READY}
    return _settled(_reopened(held, asked, replace(reset, sinks_open=sinks_open(plan, counted))), asked)


def _of_an_item(held: HeldRun, node: Node, asked: Settle) -> Finished:
    """A step that had ended in an item. If that was over, it waits for a place in its loop again; when it has one, it
    goes on behind the step, or ends."""
    plan, tx = held.plan, held.tx
    loop = plan.nodes[asked.step_key.partition(".")[0]]
    states = controls.step_states(tx, held.id)
    seeds = {loop.key} if states[loop.key] in FINAL_STEP else set()
    reset = reopen(plan, states, seeds, controls.opened_loops(tx, held.id, plan.nodes))
    _check_uncompensated(asked, compensated(plan, states, reset.waits))
    held = _reopened(held, asked, reset)
    resetting = Resetting(held, asked.step_key, asked)
    child = asked.step_key if loop.graph is None else ".".join(asked.step_key.split(".")[:2])
    _check_uncompensated(asked, resetting.children(loop, reopening.one_child(held, loop, child)))
    controls.settle_step(tx, asked)
    fp("settle.ended")
    going = [plan.nodes[key] for key in reset.waits if key in reset.going and key != loop.key]
    again = Reopened(held, How(asked.by), going, (loop, *resetting.loops), resetting.items)
    finished = advance.again(again)
    return _told(held, asked, finished)


def _reopened(held: HeldRun, asked: Settle, reset: Reset) -> HeldRun:
    error = graph.failure(held.tx, held.id, reset.failed[0]) if reset.failed else None
    controls.reopen_run(held.tx, held.id, reset, error=error, by=asked.by, steps=[asked.step_key])
    controls.reset_blocked(held.tx, held.id, reset.waits)
    return replace(held, run=replace(held.run, status=RunStatus.RUNNING, halt=None))


def _settled(held: HeldRun, asked: Settle) -> Finished:
    controls.settle_step(held.tx, asked)
    if held.plan.node(asked.step_key).kind is StepKind.WAIT:
        signals.close(held.tx, held.id, asked.step_key)
    fp("settle.ended")
    return _told(held, asked, advance.after(held, {asked.step_key: target(asked.event)}))


def _told(held: HeldRun, asked: Settle, finished: Finished) -> Finished:
    skipped = (held.step(asked.step_key),) if asked.output is None else ()
    return replace(finished, skipped=(*skipped, *finished.skipped))


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
        case StepStatus.BLOCKED | StepStatus.READY | StepStatus.WAITING:
            pass
        case _:
            _refuse(asked, f"it is {status}", show)


def _check_around(asked: Settle, around: Mapping[str, StepStatus]) -> None:
    """What is done is not opened again."""
    for key, status in around.items():
        if status is StepStatus.SUCCEEDED:
            loop = key.partition(".")[0]
            why = f"{key} succeeded, and what became of the step is in its output"
            _refuse(asked, why, f"run the loop again: `orchestrator run rerun {asked.run_id} --from {loop}`")


def _check_uncompensated(asked: Settle, found: Collection[str]) -> None:
    if found:
        _refuse(asked, f"step {' and '.join(found)} makes up for its failure, and that is not taken back")


def _check_output(held: HeldRun, node: Node, asked: Settle) -> None:
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
    schema, what = _declared(held.plan, node)
    try:
        error = misfit(json.dumps(schema, sort_keys=True), value, held.secrets.names)
    except ManifestInvalid:  # an `output_schema` that is none was registered all the same, and says nothing
        error = None
    if error is not None:
        raise OutputInvalid(
            f"The output of {asked.step_key} is not what {what}: {error.message}. Fix: correct it.",
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


def _declared(plan: Plan, node: Node) -> tuple[Mapping[str, JsonValue], str]:
    """What the manifest says of the output of a step: of a wait, and of the step whose output is the run's. The types
    of other steps are in the code only."""
    wait = awaited(node.key, node.definition)
    if wait is not None:
        return wait.form, f"{wait.what} may be"
    returns = plan.manifest.output_schema if node.key == plan.result_step else None
    return returns or {}, "the flow returns, which is this output"


def _refuse(asked: Settle, why: str, fix: str | None = None) -> NoReturn:
    what = "skipped" if asked.output is None else "marked as done"
    raise Conflict(
        f"Step {asked.step_key} of run {asked.run_id} cannot be {what}: {why}. "
        f"Fix: {fix or f'see `orchestrator run show {asked.run_id}`'}.",
        run_id=str(asked.run_id),
    )
