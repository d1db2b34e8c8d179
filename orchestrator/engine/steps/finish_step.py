"""Record a success, advance the run, and hand the finishing worker its next step."""

from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Chain, Finished, Lease
from orchestrator.core.planner import Node, Path
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, claim_step
from orchestrator.engine.steps.advance import Offer
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


def finish(
    ledger: Ledger,
    lease: Lease,
    output: str,
    *,
    inputs: str | None,
    chain: Chain | None,
    tx: Connection | None = None,
) -> Finished:
    """Record the output (JSON text) of a claimed step, in one commit with everything that follows from it.

    With `tx` the caller commits: the writes of a transactional step and its completion are one transaction.
    When the database goes away the outcome is unknown: ask `settled`.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    fp("finish.before")
    kept = kept_inputs(inputs)
    node = ledger.plan(lease.manifest_hash).node(lease.step_key)
    offer = Offer(chain, lease, output) if chain is not None else None
    finished = None
    if node.path is not Path.GENERAL and len(output) < LARGE_OUTPUT:
        finished = _in_one_statement(ledger, lease, node, output, kept, offer, tx)
    if finished is None:
        finished = _general(ledger, lease, output, kept, offer, tx)
    if tx is None:
        fp("finish.committed")
    return finished


def _in_one_statement(
    ledger: Ledger,
    lease: Lease,
    node: Node,
    output: str,
    inputs: str | None,
    offer: Offer | None,
    tx: Connection | None,
) -> Finished | None:
    """None when the statement found that this is a case for the general path; then it wrote nothing."""
    try:
        if tx is not None:
            with tx.begin_nested():  # a refusal must not end the caller's transaction
                return _fast(ledger, tx, lease, node, output, inputs, offer)
        with ledger.auto() as auto:
            return _fast(ledger, auto, lease, node, output, inputs, offer)
    except DBAPIError as exc:
        if refusal(exc) is None:
            raise
        return None


def _fast(
    ledger: Ledger, tx: Connection, lease: Lease, node: Node, output: str, inputs: str | None, offer: Offer | None
) -> Finished | None:
    if node.path is Path.SINK:
        row = finishes.sink(tx, lease, output, inputs)
        return row and Finished(run_status=RunStatus(row.run_status) if row.run_status else None)
    target = ledger.plan(lease.manifest_hash).nodes[node.only_successor] if node.path is Path.MID else node
    offered = offer.chain if offer is not None and offer.fits(target) else None
    if node.path is Path.MID:
        row = finishes.mid(tx, lease, node, output, inputs, offered)
    else:
        row = finishes.child(tx, lease, node, output, inputs, offered)
    if row is None:
        return None
    following = offer.taken(row, target) if offer is not None and row.next_status == "running" else None
    return Finished(next=following, dispatches=finishes.dispatch_of(row, lease))


def _general(
    ledger: Ledger, lease: Lease, output: str, inputs: str | None, offer: Offer | None, tx: Connection | None
) -> Finished:
    def work(connection: Connection) -> Finished:
        if len(output) >= LARGE_OUTPUT:
            graph.take_time(connection)
        run = graph.lock(connection, lease.run_id)
        advance.fence(connection, lease)
        if not graph.end_step(connection, run.id, lease.step_key, StepEvent.SUCCEED, StepStatus.SUCCEEDED):
            raise advance.lost(lease)
        graph.end_attempt(connection, run.id, lease.step_key, lease.attempt, "succeeded", inputs=inputs)
        graph.put_output(connection, run.id, lease.step_key, output)
        graph.event(connection, run.id, "step.succeeded", lease.step_key, lease.attempt)
        ended = {lease.step_key: StepStatus.SUCCEEDED}
        return advance.after(connection, ledger.plan(run.manifest_hash), run, ended, offer=offer)

    if tx is None:
        return ledger.retry(work)
    with tx.begin_nested():  # the caller may try again, and his own statements stay
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
    status = RunStatus(row.run_status)
    return Finished(next=following, dispatches=dispatches, run_status=status if status in FINAL_RUN else None)
