"""Why is it not running? One sentence for every kind of wait, and the command that helps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Row

from orchestrator.core.facts import Explanation
from orchestrator.core.gates import Join
from orchestrator.core.plan import Node, Plan
from orchestrator.core.states import FINAL_RUN, FINAL_STEP, OPEN_STEP, RunStatus, StepKind, StepStatus
from orchestrator.core.wording import counted, length, until
from orchestrator.engine.runs.advice import advice, told
from orchestrator.engine.runs.waiting import helps, later, waiting
from orchestrator.errors import ManifestUnreadable, NotFound
from orchestrator.ledger import definitions, reads, signals
from orchestrator.ledger.reads.rows import RunRow, StepRow
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.together import together
from orchestrator.ledger.tx import Ledger

_MOVING: Final = frozenset({StepKind.TASK, StepKind.WAIT, StepKind.FLOW})
"""The kinds of steps that a run waits for by themselves."""
_NAMED: Final = 5
"""Names of something that a sentence holds."""


def explain(
    ledger: Ledger, run_id: UUID, step_key: str | None = None, worker_ttl: timedelta = reads.workers.TTL
) -> Explanation:
    """What the run (or one step of it) waits for, since when, and the next command.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
    """
    row = reads.runs.get(ledger, run_id)
    try:
        if step_key is None:
            return _with_lineage(ledger, row, _with_kept(ledger, row, _run(ledger, row, worker_ttl)))
        return _step(ledger, row, reads.steps.get(ledger, run_id, step_key), reads.clock.now(ledger), worker_ttl)
    except ManifestUnreadable as exc:
        sentence = f"Run {row.id} is {row.status}. More is not known here: {exc.message.partition(' Fix: ')[0]}"
        return Explanation(sentence, "orchestrator worker ls")


def explain_many(
    ledger: Ledger, run_ids: Sequence[UUID], worker_ttl: timedelta = reads.workers.TTL
) -> dict[UUID, Explanation]:
    """The same for a page of runs, by id, in statements whose number does not grow with theirs; runs that are gone are
    left out.

    Raises:
        OrchestratorError: as `explain`, but RunNotFound.
    """
    found = together(ledger, run_ids, lambda asking, run_id: explain(asking, run_id, worker_ttl=worker_ttl))
    explained: dict[UUID, Explanation] = {}
    for run_id, said in found.items():
        if isinstance(said, Explanation):
            explained[run_id] = said
        elif not isinstance(said, NotFound):
            raise said
    return explained


def _run(ledger: Ledger, row: RunRow, worker_ttl: timedelta) -> Explanation:
    if row.status in FINAL_RUN:
        return _ended(ledger, row)
    now = reads.clock.now(ledger)
    if row.start_at is not None:
        return Explanation(later(row.id, row.start_at, now), f"orchestrator run watch {row.id}")
    steps = [step for step in _every(ledger, row.id) if step.status not in FINAL_STEP]
    if row.cancel_requested_at is not None:
        left = [step.key for step in steps if step.status is StepStatus.RUNNING]
        return Explanation(
            f"Run {row.id} was cancelled {_ago(row.cancel_requested_at, now)} ({row.cancel_reason}) and waits for "
            f"{', '.join(left) or 'its last handlers'} to stop; after the grace they are ended.",
            f"orchestrator run watch {row.id}",
        )
    for status in (StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING):
        found = [step for step in steps if step.status is status and step.kind in _MOVING]
        if found:
            first = min(found, key=lambda step: step.ready_at or step.due_at or step.wake_at or now)
            more = len(found) - 1
            also = f" {counted(more, 'more step')} {'is' if more == 1 else 'are'} {status}." if more else ""
            explained = _step(ledger, row, first, now, worker_ttl)
            return Explanation(explained.sentence + also, explained.command)
    for step in steps:
        if step.kind is StepKind.LOOP and step.status is StepStatus.RUNNING:
            return _loop(ledger, row, step, now, worker_ttl)
    return Explanation(f"Run {row.id} is {row.status}; nothing of it is waiting or running.", "orchestrator doctor")


def _with_kept(ledger: Ledger, row: RunRow, found: Explanation) -> Explanation:
    """What somebody sent that no step has taken, most likely because of its key."""
    with ledger.auto() as tx:
        kept = signals.untaken(tx, row.id, _NAMED)
    if not kept:
        return found
    say = "It kept signals that no step took" if row.status in FINAL_RUN else "It keeps signals that no step has taken"
    return replace(found, sentence=f"{found.sentence} {say}: {', '.join(kept)}.")


def _with_lineage(ledger: Ledger, row: RunRow, found: Explanation) -> Explanation:
    """Which run it was made of, and what was made of it."""
    made = f" It was made of run {row.source}." if row.source is not None else ""
    if reruns := reads.runs.reruns(ledger, row.id, 1):
        made += f" It was run again: the last time as run {reruns[0]}."
    if row.parent is not None:
        made += _called(ledger, row)
    return replace(found, sentence=found.sentence + made)


def _called(ledger: Ledger, row: RunRow) -> str:
    """By whom; and what to do there about a step that has failed with this run."""
    said = f" It was called by step {row.parent_step} of run {row.parent}."
    try:
        step = reads.steps.get(ledger, cast(UUID, row.parent), str(row.parent_step))
    except NotFound:
        return f"{said} That run is gone."
    if step.child == row.id and step.status in {StepStatus.FAILED, StepStatus.CANCELLED}:
        return f"{said} To go on there: orchestrator run retry {row.parent}/{row.parent_step}"
    return said


def _every(ledger: Ledger, run_id: UUID) -> Iterator[StepRow]:
    """The steps of the manifest, with the children of small loops."""
    after = None
    while page := reads.steps.page(ledger, run_id, after=after):
        yield from page
        after = [step.key for step in page if step.loop_key is None][-1]


def _ended(ledger: Ledger, row: RunRow) -> Explanation:
    sentence = f"Run {row.id} is over: {row.status}"
    if row.error is not None:
        where = f" at step {row.error['step']}" if "step" in row.error else ""
        kind = f"{row.error.get('type')}: " if row.status is RunStatus.FAILED else ""
        sentence += f"{where}, because {kind}{told(row.error)[0]}"
    steps = [step for step in _every(ledger, row.id) if step.loop_key is None]
    more = _allowed_failures(ledger, row, steps) + _failed_items(ledger, row, steps)
    if row.status is RunStatus.SUCCEEDED:
        return Explanation(f"{sentence}.{more}", f"orchestrator run result {row.id}")
    fix = advice(ledger, row)
    return Explanation(f"{sentence.rstrip('.')}.{more} Fix: {fix.sentence}", fix.command, fix.sentence)


def _allowed_failures(ledger: Ledger, row: RunRow, steps: Iterable[StepRow]) -> str:
    """The steps that failed and, by their `may_fail`, fail nothing else."""
    plan = ledger.plan(row.manifest_hash)
    failed = [step.key for step in steps if step.status is StepStatus.FAILED]
    allowed = [key for key in failed if plan.node(key).definition.may_fail]
    if not allowed:
        return ""
    named = ", ".join(allowed[:_NAMED]) + (", …" if len(allowed) > _NAMED else "")
    return f" {counted(len(allowed), 'step')} failed and {'was' if len(allowed) == 1 else 'were'} allowed to: {named}."


def _failed_items(ledger: Ledger, row: RunRow, steps: Iterable[StepRow]) -> str:
    """What became of the items of each loop in which some failed."""
    loops = (step for step in steps if step.kind is StepKind.LOOP and step.children_failed)
    return "".join(f" Items of {loop.key}: {_grouped(ledger, row, loop)}." for loop in loops)


def _step(ledger: Ledger, row: RunRow, step: StepRow, now: datetime, worker_ttl: timedelta) -> Explanation:
    plan = ledger.plan(row.manifest_hash)
    match step.status:
        case StepStatus.BLOCKED:
            return _blocked(ledger, row, step, plan)
        case StepStatus.READY:
            return _with_deploys(ledger, row, step, _ready(ledger, row, step, plan.node(step.key), now, worker_ttl))
        case StepStatus.RUNNING if step.kind is StepKind.LOOP:
            return _loop(ledger, row, step, now, worker_ttl)
        case StepStatus.RUNNING if step.kind is StepKind.FLOW:
            return _call(ledger, step, worker_ttl)
        case StepStatus.RUNNING if step.kind is StepKind.ITEM:
            total = step.children_total or 0
            done = total - sum((step.children or {}).get(status, 0) for status in OPEN_STEP)
            return _first_open(ledger, row, step, f"Item {step.key} has {done} of {total} steps done.", now, worker_ttl)
        case StepStatus.RUNNING:
            return _with_deploys(ledger, row, step, _running(ledger, row, step, now))
        case StepStatus.WAITING:
            node = plan.node(step.key)
            return Explanation(waiting(step, node, now), helps(row, step, node))
    why = step.reason or (step.error or {}).get("message")
    sentence = f"Step {step.key} {'has' if step.status is StepStatus.SUCCEEDED else 'is'} {step.status}"
    failed = step.status in FINAL_STEP and step.status not in {StepStatus.SUCCEEDED, StepStatus.SKIPPED}
    command = f"orchestrator run retry {row.id}/{step.key}" if failed else f"orchestrator run show {row.id}"
    link = ":" if step.status is StepStatus.SUCCEEDED else ", because"
    items = f" Its items: {_grouped(ledger, row, step)}." if step.kind is StepKind.LOOP and step.children else ""
    return Explanation(f"{sentence}{f'{link} {why}' if why else ''}.{items}", command)


def _blocked(ledger: Ledger, row: RunRow, step: StepRow, plan: Plan) -> Explanation:
    node = plan.node(step.key)
    if node.loop is not None:
        window = plan.node(node.loop).window
        what = "Item" if node.is_item else "Step"
        return Explanation(
            f"{what} {step.key} waits for a place: loop {node.loop} runs {window} at a time.",
            f"orchestrator run watch {row.id}",
        )
    keys = list(node.definition.run_after)
    with ledger.auto() as tx:
        before = {r.step_key: r.status for r in run(tx, "open_predecessors", run_id=row.id, step_keys=keys)}
    waits = [f"{key} ({status})" for key, status in before.items() if StepStatus(status) not in FINAL_STEP]
    first = next((key for key, status in before.items() if StepStatus(status) not in FINAL_STEP), None)
    command = f"orchestrator run explain {row.id}/{first}" if first else "orchestrator doctor"
    sentence = f"Step {step.key} waits for {', '.join(waits) or 'nothing that is open'}."
    return Explanation(sentence + _asked(node, {key: StepStatus(status) for key, status in before.items()}), command)


def _asked(node: Node, before: Mapping[str, StepStatus]) -> str:
    """How the edges stand whose steps have ended, where the open ones do not tell it, and what is asked then."""
    edges = node.definition.run_after
    ended = {key: status for key, status in before.items() if status in FINAL_STEP}
    told = ""
    if node.join is not Join.ALL or any(status not in edges[key] for key, status in ended.items()):
        for word, met in (("Met", True), ("Not met", False)):
            found = [f"{key} ({status})" for key, status in ended.items() if (status in edges[key]) is met]
            told += f" {word}: {', '.join(found)}." if found else ""
        told += f" It joins by `{node.join}`."
    return told + (f" Then it asks `when: {node.definition.when}`." if node.definition.when is not None else "")


def _ready(ledger: Ledger, row: RunRow, step: StepRow, node: Node, now: datetime, worker_ttl: timedelta) -> Explanation:
    ready = f"Step {step.key} has been ready for {_for(step.ready_at, now)}"
    with ledger.auto() as tx:
        version = {"flow": row.flow, "hash": row.manifest_hash, "pair": f"{step.task}@{row.manifest_hash}"}
        served = one(tx, "servers_of", task=step.task, queue=step.queue, **version, ttl=worker_ttl)
        sent = one(tx, "dispatch_facts", run_id=row.id, step_key=step.key)
        ahead = one(tx, "ahead", queue=step.queue, priority=node.priority, ready_at=step.ready_at)
    if served is None or not served.live:
        return Explanation(f"{ready}, but no worker is live.", "orchestrator worker --flows YOUR_MODULE")
    if not served.with_handler:
        return Explanation(
            f"{ready}, but no live worker has handler {step.task}; it stays "
            f"until one has.{_how_to_keep(ledger, row, step)}",
            "orchestrator worker ls",
        )
    if not served.able:
        worker, why = next(iter(served.refused.items()))
        more = f" (and {len(served.refused) - 1} more)" if len(served.refused) > 1 else ""
        return Explanation(
            f"{ready}, but no live worker's code fits version "
            f"{row.manifest_hash[:12]} of the flow: {worker}{more} refuses it, because {why}. It stays "
            f"until one accepts it, and costs no attempt.",
            "orchestrator worker ls",
        )
    if not served.listening:
        return Explanation(
            f"{ready}, but no live worker with handler {step.task} listens to queue {step.queue}.",
            f"orchestrator worker --queues {step.queue}",
        )
    if sent is not None and sent.published_at is None:
        return Explanation(
            f"{ready}; its message has not reached the broker yet, a keeper sends it.",
            "orchestrator doctor",
        )
    waiting = ahead.ahead if ahead is not None else 0
    return Explanation(
        f"{ready} and in queue {step.queue} behind {counted(waiting, 'other step')}, "
        f"for {counted(served.listening, 'worker')}.{'' if served.same else _unproven(row)}",
        "orchestrator worker ls",
    )


def _unproven(row: RunRow) -> str:
    """A worker reads a version when it meets it, and only then knows whether its code fits."""
    return (
        f" No worker's own code has version {row.manifest_hash[:12]} of the flow, which the run is pinned to; the "
        "first that takes the step sees whether its code fits."
    )


def _loop(ledger: Ledger, row: RunRow, step: StepRow, now: datetime, worker_ttl: timedelta) -> Explanation:
    """How far it is, and what the first item that is not done waits for."""
    total, left = step.children_total or 0, step.children_open or 0
    sentence = f"Loop {step.key} has {total - left} of {total} items done, {_failed(ledger, row, step)}."
    node = ledger.plan(row.manifest_hash).node(step.key)
    if node.definition.stop_on_failure and step.children_failed:
        sentence += " It stopped there, and ends with those that are running."
    elif (step.children or {}).get(StepStatus.BLOCKED):
        sentence += f" It runs {node.window} at a time."
    return _first_open(ledger, row, step, sentence, now, worker_ttl)


def _first_open(
    ledger: Ledger, row: RunRow, step: StepRow, sentence: str, now: datetime, worker_ttl: timedelta
) -> Explanation:
    """With what the first of the children that are open waits for."""
    child = reads.steps.first_open_child(ledger, row.id, step.key)
    if child is None:
        return Explanation(sentence, f"orchestrator run watch {row.id}")
    first = _step(ledger, row, child, now, worker_ttl)
    return Explanation(f"{sentence} {first.sentence}", first.command)


def _failed(ledger: Ledger, row: RunRow, loop: StepRow) -> str:
    """How many children, and which are the first."""
    count = loop.children_failed or 0
    if not count:
        return "0 failed"
    return f"{count} failed ({_first_failed(ledger, row, loop, count)})"


def _grouped(ledger: Ledger, row: RunRow, loop: StepRow) -> str:
    """Its items by where they stand; of the failed ones, the first: `9,998 succeeded, 2 failed: each.17, each.404`."""
    counts = loop.children or {}
    others = (status for status in StepStatus if status in counts and status is not StepStatus.FAILED)
    groups = [f"{counts[status]:,} {status}" for status in others]
    if failed := counts.get(StepStatus.FAILED):
        groups.append(f"{failed:,} failed: {_first_failed(ledger, row, loop, failed)}")
    return ", ".join(groups)


def _first_failed(ledger: Ledger, row: RunRow, loop: StepRow, count: int) -> str:
    first = reads.steps.children(ledger, row.id, loop.key, status=StepStatus.FAILED, limit=3)
    return ", ".join(step.key for step in first) + (", …" if count > len(first) else "")


def _call(ledger: Ledger, step: StepRow, worker_ttl: timedelta) -> Explanation:
    """What the run waits for that does the step, and so on downwards."""
    child = reads.runs.get(ledger, cast(UUID, step.child))
    sentence = f"Step {step.key} is done by run {child.id} of {child.flow}."
    if child.status in FINAL_RUN:
        return Explanation(f"{sentence} It has {child.status}, and a keeper tells the step.", "orchestrator worker ls")
    below = _run(ledger, child, worker_ttl)
    return Explanation(f"{sentence} {below.sentence}", below.command)


def _how_to_keep(ledger: Ledger, row: RunRow, step: StepRow) -> str:
    """What helps when the step was removed from the code."""
    try:
        current = ledger.plan(reads.flows.get(ledger, row.flow).manifest_hash)
        with ledger.auto() as tx:
            version = definitions.version(tx, row.flow, row.manifest_hash)
    except (NotFound, ManifestUnreadable):
        return ""
    if any(one.task == step.task for one in current.every()):
        return ""
    if version is not None and not version.superseded:  # it stands beside the current one
        return (
            f" Version {row.manifest_hash[:12]} of the flow, which the run is pinned to, was never the current one, "
            f"and the current one has no step of type `{step.type}`: start a worker of the code that has it."
        )
    return (
        f" The current version of the flow has no step of type `{step.type}` any more: keep its function, and name it "
        f"in `@flow(retired=[{step.type}])`, or start a worker of the code that has it."
    )


def _running(ledger: Ledger, row: RunRow, step: StepRow, now: datetime) -> Explanation:
    with ledger.auto() as tx:
        lease = one(tx, "lease_facts", run_id=row.id, step_key=step.key)
    if silent := _silent(step, lease, now):
        return Explanation(silent, f"orchestrator run watch {row.id}")
    at = f" at {_progress(step)}" if step.progress else ""
    return Explanation(
        f"Step {step.key} has been running for {_for(step.since, now)}{at} "
        f"on {step.owner or 'a worker that was lost'}, attempt {step.attempts}{_heard(lease, now)}.",
        f"orchestrator run watch {row.id}",
    )


def _with_deploys(ledger: Ledger, row: RunRow, step: StepRow, found: Explanation) -> Explanation:
    """How often it was begun in vain, which no count of attempts shows."""
    with ledger.auto() as tx:
        facts = one(tx, "deploys_of", run_id=row.id, step_key=step.key)
    told = [found.sentence]
    if facts is not None and facts.deploys:
        told.append(
            f"It was released by a deploy {_times(facts.deploys)}: its worker was told to stop and ended before it. "
            "Give workers more time to stop than the step takes."
        )
    if facts is not None and facts.handed_back:
        told.append(
            f"It was handed back {_times(facts.handed_back)} by a worker that stopped, uncharged: let it save its "
            "place and call ctx.hand_over() when ctx.stopping, or raise ORCHESTRATOR_STOP_GRACE."
        )
    return replace(found, sentence=" ".join(told))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _silent(step: StepRow, lease: Row[Any] | None, now: datetime) -> str | None:
    """What to say when half of the lease went by without a renewal: heartbeats are at most a third of it apart."""
    if lease is None or now - lease.renewed_at < (lease.expires_at - lease.renewed_at) / 2:
        return None
    return (
        f"Step {step.key} was running on {step.owner}, which last renewed its lease {_ago(lease.renewed_at, now)}; "
        f"if it is dead, the step runs again {until(lease.expires_at, now)}."
    )


def _heard(lease: Row[Any] | None, now: datetime) -> str:
    """A worker that has just died looks alive until its lease is old: say how fresh the news of it is."""
    if lease is None:
        return ""
    heard = max(lease.renewed_at, lease.seen_at or lease.renewed_at)
    return f"; the worker was last heard of {_ago(heard, now)}, and if it is dead the step runs again " + until(
        lease.expires_at, now
    )


def _progress(step: StepRow) -> str:
    facts = step.progress or {}
    total = f" of {facts['total']}" if facts.get("total") is not None else ""
    return f"{facts.get('done')}{total}"


def _ago(at: datetime | None, now: datetime) -> str:
    return "an unknown time" if at is None else f"{length(now - at)} ago"


def _for(since: datetime | None, now: datetime) -> str:
    return "an unknown time" if since is None else length(now - since)
