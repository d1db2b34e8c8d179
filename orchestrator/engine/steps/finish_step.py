"""Record a success, advance the run, and hand the finishing worker its next step."""

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Finished, Lease, Success
from orchestrator.core.planner import Node, Path
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, claim_step
from orchestrator.engine.steps.advance import Completion
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.kept import kept_inputs
from orchestrator.errors import OutputInvalid
from orchestrator.ledger import finishes, graph
from orchestrator.ledger.graph import OUTPUT_LIMIT
from orchestrator.ledger.tx import Ledger, refusal

LARGE_OUTPUT: Final = 8_000_000
"""Characters from which an output takes more time to write than a statement usually has."""


def check_size(output: str) -> None:
    """
    Raises:
        OutputInvalid: it is larger than what PostgreSQL holds in one value.
    """
    size = len(output) if len(output) < OUTPUT_LIMIT // 4 else len(output.encode())
    if size > OUTPUT_LIMIT:
        raise OutputInvalid(
            f"The result is {size:,} bytes of JSON, and a value in the ledger holds {OUTPUT_LIMIT:,}. "
            "Fix: store it elsewhere, and return where it is."
        )


def finish(ledger: Ledger, lease: Lease, done: Success, tx: Connection | None = None) -> Finished:
    """Record the success of a claimed step, in one commit with everything that follows from it.

    With `tx` the caller commits: the writes of a transactional step and its completion are one transaction.
    When the database goes away the outcome is unknown: ask `settled`.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    fp("finish.before")
    if done.inputs is not None and kept_inputs(done.inputs) is None:
        done = replace(done, inputs=None)
    node = ledger.plan(lease.manifest_hash).node(lease.step_key)
    completion = Completion(lease, done)
    finished = None
    if node.path is not Path.GENERAL and len(done.output) < LARGE_OUTPUT:
        finished = _in_one_statement(ledger, completion, node, tx)
    if finished is None:
        finished = _general(ledger, completion, tx)
    if tx is None:
        fp("finish.committed")
    return finished


def _in_one_statement(ledger: Ledger, completion: Completion, node: Node, tx: Connection | None) -> Finished | None:
    """None when the statement found that this is a case for the general path; then it wrote nothing."""
    target = _target(ledger, completion.lease, node)
    try:
        if tx is not None:
            with tx.begin_nested():  # a refusal must not end the caller's transaction
                return _fast(tx, completion, node, target)
        with ledger.auto() as auto:
            return _fast(auto, completion, node, target)
    except DBAPIError as exc:
        if refusal(exc) is None:
            raise
        return None


def _target(ledger: Ledger, lease: Lease, node: Node) -> Node | None:
    """The one step that may go when this one ends: its successor, or another child of its loop."""
    if node.path is Path.MID:
        return ledger.plan(lease.manifest_hash).nodes[node.only_successor]
    return node if node.path is Path.CHILD else None


def _fast(tx: Connection, completion: Completion, node: Node, target: Node | None) -> Finished | None:
    lease, done = completion.lease, completion.success
    if target is None:
        row = finishes.sink(tx, lease, done)
        return row and _ended(row)
    if not completion.stays(target):
        done = replace(done, chain=None)
    row = (finishes.mid if node.path is Path.MID else finishes.child)(tx, lease, node, done)
    if row is None:
        return None
    following = completion.taken(row, target) if row.next_status == "running" else None
    return Finished(next=following, dispatches=finishes.dispatch_of(row, lease))


def _general(ledger: Ledger, completion: Completion, tx: Connection | None) -> Finished:
    lease, done = completion.lease, completion.success

    def work(connection: Connection) -> Finished:
        if len(done.output) >= LARGE_OUTPUT:
            graph.take_time(connection)
        held = HeldRun.lock(ledger, connection, lease.run_id)
        if finishes.general(connection, lease, done) is None:
            raise advance.lost(lease)
        return advance.after(held, {lease.step_key: StepStatus.SUCCEEDED}, by=completion)

    if tx is None:
        return ledger.retry(work)
    with tx.begin_nested():  # the caller may try again, and its own statements stay
        return work(tx)


def settled(ledger: Ledger, lease: Lease) -> Finished | None:
    """After a commit whose outcome is unknown: what it led to, if it happened; None when it did not.

    Raises:
        LeaseLost: the attempt was ended by somebody else.
    """
    with ledger.auto() as tx:
        row = finishes.recorded(tx, lease)
        if row is None or row.version != lease.fence or row.status not in {"running", "succeeded"}:
            raise advance.lost(lease)
        if row.status == "running":
            return None
        keys = finishes.chained(tx, lease)
        dispatches = finishes.undelivered(tx, lease)
    following = claim_step.owned(ledger, lease.run_id, keys[0], lease.owner) if keys else None
    return replace(_ended(row), next=following, dispatches=dispatches)


def _ended(row: Any) -> Finished:
    """With the run, if it did."""
    if row.run_status not in FINAL_RUN:
        return Finished()
    return Finished(run_status=RunStatus(row.run_status), run_took=row.run_took)
