"""What an operator's retry opens again: failed steps, and what was skipped because of them. The caller goes on with it
(`advance.again`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.core.plan import WINDOW, Node, Plan
from orchestrator.core.reopen import Reset, compensated, is_withdrawn
from orchestrator.core.reopen import reopen as reset_of
from orchestrator.core.states import FINAL_RUN, FINAL_STEP, RunStatus, StepEvent, StepStatus
from orchestrator.core.wording import named
from orchestrator.engine.steps import reopening
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.reopening import Resetting
from orchestrator.errors import Conflict, StepNotFound
from orchestrator.ledger import controls, graph, reads, subflows
from orchestrator.ledger.graph import LockedRun
from orchestrator.ledger.tx import Ledger

RETRYABLE = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})
RESET = RETRYABLE | {StepStatus.SKIPPED}
"""What is reset of a loop's children."""


@dataclass(frozen=True, slots=True)
class How:
    """Who retries. `force`: also what was made up for. `fresh`: a step that calls a flow starts a new run of it."""

    by: str
    force: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Reopened:
    """A run in its new epoch, held: steps `going`, which nothing is in the way of; loops, of which items wait again;
    `items` that are under way, and in which steps wait again; `full` loops, which have every child's output already;
    and what was dispatched of the others."""

    held: HeldRun
    how: How
    going: Collection[Node] = ()
    loops: Collection[Node] = ()
    items: Sequence[str] = ()
    full: Collection[Node] = ()
    dispatches: Sequence[Dispatch] = ()


def reopen(ledger: Ledger, tx: Connection, run_id: UUID, step_key: str | None, how: How) -> Reopened:
    """Reset a failed or cancelled step, or all of them.

    Raises: as `retry_step.retry`.
    """
    run = graph.lock(tx, run_id, against_claims=True)
    _check_run(run)
    graph.take_time(tx)
    plan = ledger.plan(run.manifest_hash)
    step_key = None if step_key is None else plan.row(step_key)
    states = controls.step_states(tx, run_id)
    opened = controls.opened_loops(tx, run_id, plan.nodes)
    children = _children(HeldRun(ledger, tx, run), step_key, states)
    _check_withdrawn(run_id, plan, step_key, states)
    seeds = _seeds(run_id, step_key, states, children)
    reset = reset_of(plan, states, seeds, opened)
    if not how.force:
        _check_uncompensated(run_id, compensated(plan, states, reset.waits))
    _check_possible(run_id, step_key, seeds, reset, children)
    controls.reopen_run(
        tx,
        run_id,
        reset,
        error=graph.failure(tx, run_id, reset.failed[0]) if reset.failed else None,
        by=how.by,
        steps=[step_key] if step_key else sorted(seeds | {key for key, failed in children.items() if failed}),
    )
    again = HeldRun(ledger, tx, replace(run, status=RunStatus.RUNNING, halt=None))
    reopened = {key: children.get(key, []) for key in opened & (reset.waits.keys() | children.keys())}
    items = {key: failed for key, failed in reopened.items() if plan.nodes[key].graph is not None}
    resetting = Resetting(again, step_key if step_key is not None and "." in step_key else None)
    answered: dict[str, StepStatus] = {}
    for key, failed in items.items():
        answered |= resetting.children(plan.nodes[key], failed)
    if resetting.unmoved is not None:
        _refuse(run_id, f"step {step_key} is {resetting.unmoved}, and cannot run as what is before it ended")
    if not how.force:
        _check_uncompensated(run_id, answered)
    return _reset(again, reset, reopened, how, resetting)


def _check_run(run: LockedRun) -> None:
    if run.status is RunStatus.SUCCEEDED:
        _refuse(run.id, "it succeeded", f"`orchestrator run rerun {run.id}` makes a new run of it")
    if run.halt is not None and run.status not in FINAL_RUN:
        _refuse(run.id, "it is being stopped, and handlers of it still run; wait until it has ended")


def _check_uncompensated(run_id: UUID, found: Mapping[str, StepStatus]) -> None:
    force = "if what failed must run again all the same, add --force (in Python: force=True)"
    if done := [key for key, status in found.items() if status is StepStatus.SUCCEEDED]:
        _refuse(
            run_id,
            f"{named('step', done)} ran because of the failure and succeeded, and a retry does not take that back",
            f"if its work is still wanted, start a new run; {force}; `orchestrator run show {run_id}` shows it",
        )
    for key, status in found.items():
        why = f"step {key} makes up for the failure and is {status}, and a retry does not take that back"
        _refuse(run_id, why, f"let it end, and see `orchestrator run show {run_id}`; {force}")


def _check_possible(
    run_id: UUID, step_key: str | None, seeds: set[str], reset: Reset, children: Mapping[str, list[str]]
) -> None:
    """One step that is asked for must run; among all of them, those that cannot stay as they are."""
    if reset.impossible and (step_key is not None or (reset.impossible == seeds and not any(children.values()))):
        _refuse(run_id, f"{', '.join(sorted(reset.impossible))} cannot run: a predecessor did not end as asked")


def _check_withdrawn(run_id: UUID, plan: Plan, step_key: str | None, states: Mapping[str, StepStatus]) -> None:
    if step_key is None or states.get(step_key) is not StepStatus.SKIPPED:
        return
    if is_withdrawn(plan, step_key, states):
        races = " and ".join(edge.target for edge in plan.nodes[step_key].edges)
        _refuse(run_id, f"{step_key} was withdrawn: {races} was decided without it, and nothing would follow from it")


def _seeds(
    run_id: UUID, step_key: str | None, states: Mapping[str, StepStatus], children: Mapping[str, list[str]]
) -> set[str]:
    if step_key is None:
        seeds = {key for key, status in states.items() if status in RETRYABLE}
        if not seeds and not any(children.values()):
            _refuse(run_id, "none of its steps failed or was cancelled")
        return seeds
    key = step_key.partition(".")[0]
    if key == step_key and states[key] not in RETRYABLE:
        _refuse(run_id, f"step {step_key} is {states[key]}, not failed")
    return set() if states[key] not in FINAL_STEP else {key}


def _children(held: HeldRun, step_key: str | None, states: Mapping[str, StepStatus]) -> dict[str, list[str]]:
    """By loop, the children to reset; of more than `WINDOW` of them, the first ones."""
    plan, run_id = held.plan, held.id
    if step_key is not None:
        loop, dot, _ = step_key.partition(".")
        if loop not in states or (dot and not plan.nodes[loop].is_loop):
            known = ", ".join(key for key in plan.nodes if key in states)
            raise StepNotFound(
                f"Run {run_id} has no step {step_key!r}; it has {known}. Fix: take one of these.",
                step_key=step_key,
            )
        if dot:
            _check_child(held, step_key)
        if dot and states[loop] is StepStatus.SUCCEEDED:
            why = f"loop {loop} succeeded, and what became of {step_key} is in its output"
            _refuse(run_id, why, f"run the loop again: `orchestrator run rerun {run_id} --from {loop}`")
        if not plan.nodes[loop].is_loop:
            return {}
        if not dot:
            return {loop: reopening.not_succeeded(held, plan.nodes[loop])}
        child = ".".join(step_key.split(".")[:2]) if plan.nodes[loop].graph else step_key
        return {loop: reopening.one_child(held, plan.nodes[loop], child)}
    return {
        key: reopening.not_succeeded(held, plan.nodes[key])
        for key, status in states.items()
        if plan.nodes[key].is_loop and (status in RETRYABLE or status is StepStatus.RUNNING)
    }


def _check_child(held: HeldRun, step_key: str) -> None:
    """It ended without success, and so did everything that it is a part of, up to its loop."""
    tx, run_id = held.tx, held.id
    parts = step_key.split(".")
    keys = [".".join(parts[: n + 1]) for n in range(1, len(parts))]
    for key, status in graph.statuses(tx, run_id, keys).items():
        if status is StepStatus.SUCCEEDED:
            _refuse(run_id, f"{key} succeeded")
    found = graph.statuses(tx, run_id, [step_key])
    if step_key not in found:
        raise reads.steps.unknown(held.plan, run_id, step_key)
    if found[step_key] not in RESET:
        _refuse(run_id, f"step {step_key} did not fail")


def _reset(held: HeldRun, reset: Reset, reopened: Mapping[str, list[str]], how: How, resetting: Resetting) -> Reopened:
    """`reopened`: loops that have their children, with those of them to run again."""
    tx, plan = held.tx, held.plan
    controls.reset_blocked(tx, held.id, reset.waits)
    if how.fresh:
        subflows.forget_children(tx, held.id)
    dispatches: list[Dispatch] = []
    full: list[Node] = []
    for loop, failed in reopened.items():
        if plan.nodes[loop].graph is not None:
            continue
        let_in, is_full = _reopen_loop(held, plan.nodes[loop], failed)
        dispatches += let_in
        full += [plan.nodes[loop]] if is_full else []
    going = [plan.nodes[key] for key in reset.waits if key in reset.going and key not in reopened]
    again = (plan.nodes[key] for key in reopened if plan.nodes[key].graph is not None)
    return Reopened(held, how, going, (*again, *resetting.loops), resetting.items, full, dispatches)


def _reopen_loop(held: HeldRun, loop: Node, failed: list[str]) -> tuple[tuple[Dispatch, ...], bool]:
    """What its window lets in; and whether nothing of it is left to do.

    A few children go at once, unless the user limits how many may. Many go through the window, as when the loop opened.
    """
    tx, run_id = held.tx, held.id
    many = len(failed) > WINDOW
    if many:
        controls.reset_loop(tx, run_id, loop.key)
    else:
        controls.reset_children(tx, run_id, failed)
    windowed = many or loop.definition.concurrency is not None
    counted = controls.reopen_loop(tx, run_id, loop.key, windowed=windowed)
    if windowed:
        failed = graph.waiting_children(tx, run_id, loop, max(loop.window - counted.moving, 0))
        reopening.aim(held, loop, counted, failed)
    return graph.ready(tx, run_id, failed, StepEvent.UNBLOCK), counted.open == 0


def _refuse(run_id: UUID, why: str, fix: str | None = None) -> NoReturn:
    fix = fix or f"see `orchestrator run show {run_id}`"
    raise Conflict(f"Run {run_id} cannot be retried like this: {why}. Fix: {fix}.", run_id=str(run_id))
