"""Record a success, advance the run, and hand the finishing worker its next step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Finished, Lease, Success
from orchestrator.core.plan import Node, Path, Plan
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, claim_step, conditions, items
from orchestrator.engine.steps.advance import Completion
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.kept import kept_inputs
from orchestrator.errors import OutputInvalid
from orchestrator.ledger import finishes, graph
from orchestrator.ledger.graph import OUTPUT_LIMIT
from orchestrator.ledger.tx import Ledger, refusal
from orchestrator.payloads import Payloads

LARGE_OUTPUT: Final = 8_000_000
"""Characters from which an output takes more time to write than a statement usually has."""


def check_size(output: str, payloads: Payloads) -> None:
    """
    Raises:
        OutputInvalid: it is larger than what the payload store takes; or, without one, than what PostgreSQL holds in
            one value.
    """
    limit = min(payloads.cap, OUTPUT_LIMIT) if payloads else OUTPUT_LIMIT
    size = len(output) if len(output) < limit // 4 else len(output.encode())
    if size <= limit:
        return
    holder, more = "a value in the ledger holds", ""
    if payloads and payloads.cap < OUTPUT_LIMIT:
        holder, more = "ORCHESTRATOR_PAYLOAD_CAP allows", ", or raise that setting of the workers"
    raise OutputInvalid(
        f"The result is {size:,} bytes of JSON, and {holder} {limit:,}. "
        f"Fix: store it elsewhere, and return where it is{more}."
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
    completion = Completion(lease, done)
    finished = None
    if len(done.output) < LARGE_OUTPUT and done.payload is None:
        finished = _in_one_statement(ledger, completion, tx)
    if finished is None:
        finished = _general(ledger, completion, tx)
    if tx is None:
        fp("finish.committed")
    return finished


def _in_one_statement(ledger: Ledger, completion: Completion, tx: Connection | None) -> Finished | None:
    """None when this is a case for the general path; then nothing was written."""
    plan = ledger.plan(completion.lease.manifest_hash)
    node = plan.node(completion.lease.step_key)
    for way in _ways(plan, node):
        try:
            with ledger.auto() if tx is None else _savepoint(tx) as connection:
                return way(connection, completion, plan, node)
        except DBAPIError as exc:
            reason = refusal(exc)
            if reason is None:
                raise
            if reason != finishes.LAST_CHILD:
                return None
    return None


@contextmanager
def _savepoint(tx: Connection) -> Iterator[Connection]:
    """A refusal must not end a transaction of the caller's."""
    with tx.begin_nested():
        yield tx


_Way = Callable[[Connection, Completion, Plan, Node], Finished | None]


def _ways(plan: Plan, node: Node) -> tuple[_Way, ...]:
    """The statements that may record it, in the order in which they are tried."""
    if node.loop is not None and plan.node(node.loop).path is Path.MID:
        return _child, _last
    return _WAYS[node.path]


def _mid(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    target = plan.node(node.only_successor)
    row = finishes.mid(tx, by.lease, target, by.offer(target))
    return row and _followed(by, target, [row])


def _ask(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    """The next one's condition reads only what this worker has in hand; what does not hold is recorded with its
    reason, on the general path."""
    holds = conditions.foreseen(plan.nodes[node.only_successor], by.lease, by.success.output)
    return _mid(tx, by, plan, node) if holds else None


def _open(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    loop = plan.node(node.only_successor)
    assert loop.body is not None
    rows = finishes.opening(tx, by.lease, loop, by.offer(loop.body))
    return _followed(by, loop.body, rows) if rows else None


def _child(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    row = finishes.child(tx, by.lease, node, by.offer(node))
    return row and _followed(by, node, [row])


def _last(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    assert node.loop is not None
    target = plan.node(plan.node(node.loop).only_successor)
    row = finishes.last(tx, by.lease, node, target, by.offer(target))
    return row and _followed(by, target, [row])


def _item(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    """The output of an item is made of what this worker has in hand, or on the general path."""
    item = plan.node(by.lease.step_key.rpartition(".")[0])
    result = items.foreseen(item, by.lease, by.success.output)
    if result is None or len(result) >= LARGE_OUTPUT:
        return None
    assert item.loop is not None
    loop = plan.node(item.loop)
    assert loop.graph is not None
    (first,) = loop.graph.roots
    row = finishes.item(tx, by.lease, loop, by.offer(first), result)
    return row and _followed(by, first, [row])


def _sink(tx: Connection, by: Completion, plan: Plan, node: Node) -> Finished | None:
    row = finishes.sink(tx, by.lease, by.success)
    return row and _ended(row)


_WAYS: Final[Mapping[Path, tuple[_Way, ...]]] = {
    Path.MID: (_mid,),
    Path.ASK: (_ask,),
    Path.OPEN: (_open,),
    Path.CHILD: (_child,),
    Path.SINK: (_sink,),
    Path.ITEM: (_item,),
    Path.GENERAL: (),
}


def _followed(by: Completion, target: Node, rows: Sequence[Any]) -> Finished:
    """`target` may go, once for each row: claimed, or dispatched, or not yet."""
    taken = next((by.taken(row, target) for row in rows if row.next_status == "running"), None)
    return Finished(next=taken, dispatches=finishes.dispatches_of(rows, by.lease))


def _general(ledger: Ledger, completion: Completion, tx: Connection | None) -> Finished:
    lease, done = completion.lease, completion.success

    def work(connection: Connection) -> Finished:
        if len(done.output) >= LARGE_OUTPUT and done.payload is None:
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
    return Finished(run_status=RunStatus(row.run_status), run_took=row.run_took, untold=not row.parent_told)
