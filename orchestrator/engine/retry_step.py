"""An operator runs failed steps again: a new epoch of the run."""

from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.core.planner import Plan
from orchestrator.core.reopen import Reset, reopen
from orchestrator.core.states import FINAL_STEP, StepEvent, StepStatus
from orchestrator.engine.loops import items_of, open_loop
from orchestrator.errors import Conflict, StepNotFound
from orchestrator.ledger import controls, graph
from orchestrator.ledger.tx import Ledger

RETRYABLE = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})


def retry(ledger: Ledger, run_id: UUID, step_key: str | None, *, by: str) -> tuple[Dispatch, ...]:
    """Run a failed or cancelled step again, or all of them, with everything that was skipped because of them.

    Attempts are counted on, retries anew. What succeeded is not run again.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
        Conflict: the step did not fail, or it could not run now either. Of two operators at once, one gets this.
    """

    def work(tx: Connection) -> tuple[Dispatch, ...]:
        run = graph.lock(tx, run_id, against_claims=True)
        plan = ledger.plan(run.manifest_hash)
        states = controls.step_states(tx, run_id)
        children = _children(tx, plan, run_id, step_key, states)
        seeds = _seeds(plan, run_id, step_key, states)
        reset = reopen(plan, states, seeds)
        if reset.impossible:
            _refuse(run_id, f"{', '.join(sorted(reset.impossible))} cannot run: a predecessor did not end as asked")
        controls.reopen_run(
            tx,
            run_id,
            sinks_open=reset.sinks_open,
            failures=reset.failures,
            by=by,
            steps=[step_key] if step_key else sorted(seeds),
        )
        return _reset(tx, plan, run_id, reset, children)

    return ledger.retry(work)


def _seeds(plan: Plan, run_id: UUID, step_key: str | None, states: dict[str, StepStatus]) -> set[str]:
    if step_key is None:
        seeds = {key for key, status in states.items() if status in RETRYABLE}
        if not seeds:
            _refuse(run_id, "none of its steps failed or was cancelled")
        # What was cancelled behind a failed step follows it; alone it could not run.
        return {key for key in seeds if not any(before in seeds for before in plan.nodes[key].definition.run_after)}
    key = step_key.partition(".")[0]
    if key == step_key and states[key] not in RETRYABLE:
        _refuse(run_id, f"step {step_key} is {states[key]}, not failed")
    return set() if states[key] not in FINAL_STEP else {key}


def _children(
    tx: Connection, plan: Plan, run_id: UUID, step_key: str | None, states: dict[str, StepStatus]
) -> dict[str, list[str]]:
    """By loop, the children to reset."""
    if step_key is not None:
        loop, dot, _ = step_key.partition(".")
        if loop not in states:
            raise StepNotFound(
                f"Run {run_id} has no step {step_key!r}; it has {', '.join(states)}. Fix: take one of these.",
                step_key=step_key,
            )
        failed = controls.failed_children(tx, run_id, loop) if plan.nodes[loop].is_loop else []
        if dot and step_key not in failed:
            _refuse(run_id, f"step {step_key} did not fail")
        return {loop: [step_key] if dot else failed}
    return {
        key: controls.failed_children(tx, run_id, key)
        for key, status in states.items()
        if status in RETRYABLE and plan.nodes[key].is_loop
    }


def _reset(
    tx: Connection, plan: Plan, run_id: UUID, reset: Reset, children: dict[str, list[str]]
) -> tuple[Dispatch, ...]:
    reopened = {key: failed for key, failed in children.items() if failed}
    controls.reset_blocked(tx, run_id, {key: wait for key, wait in reset.waits.items() if key not in reopened})
    dispatches: list[Dispatch] = []
    for loop, failed in reopened.items():
        window = plan.nodes[loop].definition.concurrency
        controls.reset_children(tx, run_id, failed)
        controls.reopen_loop(tx, run_id, loop, windowed=window is not None)
        dispatches += graph.ready(tx, run_id, failed[:window], StepEvent.UNBLOCK)
    free = [plan.nodes[key] for key, wait in reset.waits.items() if wait == (0, 0) and key not in reopened]
    dispatches += graph.ready(tx, run_id, [node.key for node in free if not node.is_loop], StepEvent.UNBLOCK)
    for node in (node for node in free if node.is_loop):
        opened = open_loop(tx, run_id, node, items_of(tx, run_id, node))
        if opened.ended is not None:
            _refuse(run_id, f"the list of loop {node.key} is still wrong or empty")
        dispatches += opened.dispatches
    return tuple(dispatches)


def _refuse(run_id: UUID, why: str) -> None:
    raise Conflict(
        f"Run {run_id} cannot be retried so: {why}. Fix: see `orchestrator run show {run_id}`.", run_id=str(run_id)
    )
