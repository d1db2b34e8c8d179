"""Lost messages are found again, and a deep backlog does not multiply them."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Dispatch, WorkerInfo
from orchestrator.engine import workers
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger import reads
from orchestrator.ledger.dispatches import Lost, Patience, Search
from tests.support.factories import Lab, call, keys, loop

AFTER = Patience(after=timedelta(seconds=15), unpublished_after=timedelta(seconds=2), worker_ttl=timedelta(seconds=30))


def hello(lab: Lab, *tasks: str) -> None:
    """A live worker with these handlers."""
    info = WorkerInfo("h/1/r", "h", 1, "prefork", 4, 4, ("default",), tasks, "1")
    workers.hello(lab.ledger, info)


def lost(lab: Lab, missing: int = 100, queue: str = "default", priorities: tuple[int, ...] = (3, 4, 5)) -> list[str]:
    return keys(redispatch.lost(lab.ledger, Search(queue, priorities, missing), AFTER).dispatches)


def published(lab: Lab, *run_ids: Any) -> list[Dispatch]:
    rows = lab.rows("SELECT run_id, step_key, dispatch_no, task, queue, priority FROM flow_step_dispatches")
    return [Dispatch(*row.values()) for row in rows]


def test_outstanding_counts_what_should_be_in_the_broker(lab: Lab) -> None:
    """By list; what was claimed is not in it."""
    lab.flow({"a": call(), "b": call(queue="gpu", priority=0), "each": loop([1, 2, 3])})
    run_id = lab.start()
    assert redispatch.outstanding(lab.ledger) == {("default", 5): 4, ("gpu", 0): 1}
    lab.take(run_id, "a")
    lab.do(run_id, "b")
    assert redispatch.outstanding(lab.ledger) == {("default", 5): 3}


def test_what_was_never_published_is_found_soon(lab: Lab) -> None:
    """A process that died between its commit and its publish."""
    lab.run({"a": call()})
    hello(lab, "demo.work")
    assert lost(lab) == []
    lab.forward(3)
    assert lost(lab) == ["a"]
    lab.forward(3)
    assert lost(lab) == []
    (row,) = lab.rows("SELECT publish_count FROM flow_step_dispatches")
    assert row["publish_count"] == 1


def test_patience_doubles_with_every_message(lab: Lab) -> None:
    """15 s, 30 s, 60 s … ten minutes: a message that a busy worker holds is hardly ever sent twice."""
    lab.run({"a": call()})
    redispatch.confirm(lab.ledger, published(lab))
    for patience in (15, 30, 60, 120, 240, 480, 600, 600):
        hello(lab, "demo.work")
        lab.forward(patience - 2)
        hello(lab, "demo.work")
        assert lost(lab) == [], patience
        lab.forward(3)
        assert lost(lab) == ["a"], patience
    (row,) = lab.rows("SELECT publish_count FROM flow_step_dispatches")
    assert row["publish_count"] == 9


def test_only_the_missing_oldest_are_sent(lab: Lab) -> None:
    """Lists are first in, first out: when messages are missing, they are the oldest."""
    lab.flow({"a": call()})
    first = [lab.start() for _ in range(4)]
    hello(lab, "demo.work")
    lab.forward(10)
    found = redispatch.lost(lab.ledger, Search("default", [5], 2), AFTER)
    assert {dispatch.run_id for dispatch in found.dispatches} == set(first[:2])
    assert redispatch.lost(lab.ledger, Search("default", [5], 0), AFTER) == Lost()
    assert redispatch.lost(lab.ledger, Search("default", [5], -3), AFTER) == Lost()
    assert len(redispatch.lost(lab.ledger, Search("default", [5], 9), AFTER, page=1).dispatches) == 1


def test_other_lists_are_left_alone(lab: Lab) -> None:
    """Queue and the priorities that share a list."""
    lab.flow({"a": call(), "b": call(queue="gpu"), "c": call(priority=9)})
    lab.start()
    hello(lab, "demo.work")
    lab.forward(10)
    assert lost(lab) == ["a"]
    assert lost(lab, priorities=(9,)) == ["c"]
    assert lost(lab, queue="gpu") == ["b"]


def test_steps_nobody_can_run_stay_and_are_visible(lab: Lab) -> None:
    """A worker without the handler would only drop the message."""
    lab.flow({"a": call("new_step")})
    lab.start()
    hello(lab, "demo.work")
    lab.forward(10)
    assert lost(lab) == []
    (row,) = reads.workers.unserved(lab.ledger)
    assert (row.task, row.queue, row.ready, row.refused) == ("demo.new_step", "default", 1, 0)
    hello(lab, "demo.new_step")
    assert lost(lab) == ["a"]
    assert reads.workers.unserved(lab.ledger) == []
    hash_ = reads.flows.get(lab.ledger, "demo").manifest_hash
    workers.refuse(lab.ledger, "h/1/r", f"demo.new_step@{hash_}", "it does not fit")
    (row,) = reads.workers.unserved(lab.ledger)
    assert (row.task, row.ready, row.refused) == ("demo.new_step", 1, 1)


def test_dead_workers_do_not_count(lab: Lab) -> None:
    """A worker that was not seen for its time to live has no handlers."""
    lab.run({"a": call()})
    hello(lab, "demo.work")
    lab.forward(31)
    assert lost(lab) == []
    assert workers.seen(lab.ledger, "h/1/r", consuming=True)
    assert lost(lab) == ["a"]
    workers.gone(lab.ledger, "h/1/r")
    assert not workers.seen(lab.ledger, "h/1/r", consuming=True)


def test_confirm_notes_the_first_message_only(lab: Lab) -> None:
    """It comes late and lazily; by then the keeper may have sent another, or the step may be done."""
    run_id = lab.run({"a": call()})
    sent = published(lab)
    hello(lab, "demo.work")
    lab.forward(3)
    lost(lab)
    (before,) = lab.rows("SELECT published_at, publish_count FROM flow_step_dispatches")
    redispatch.confirm(lab.ledger, sent)
    (now,) = lab.rows("SELECT published_at, publish_count FROM flow_step_dispatches")
    assert now == before
    lab.do(run_id, "a")
    redispatch.confirm(lab.ledger, [])


def test_a_dispatch_that_was_claimed_needs_no_confirmation(lab: Lab) -> None:
    """Most are, by the time that the confirmation comes: a row is not written for nothing."""
    lab.flow({"a": call(), "b": call()})
    run_id = lab.start()
    sent = published(lab)
    lab.take(run_id, "a")
    redispatch.confirm(lab.ledger, sent)
    rows = lab.rows("SELECT step_key, publish_count FROM flow_step_dispatches ORDER BY step_key")
    assert [tuple(row.values()) for row in rows] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("status", ["claimed", "done", "waiting"])
def test_what_is_not_ready_is_not_lost(lab: Lab, status: str) -> None:
    """Only a READY step needs a message."""
    run_id = lab.run({"a": call(retry={"max_attempts": 2, "backoff": {"delays": ["PT100S"]}})})
    hello(lab, "demo.work")
    lease = lab.take(run_id, "a")
    if status == "done":
        lab.done(lease)
    if status == "waiting":
        lab.fail(lease)
    lab.forward(25)
    assert lost(lab) == []


def came(lab: Lab, name: str, *tasks: str, refuses: dict[str, str] | None = None) -> list[str]:
    """A worker says hello; what it wakes, in pages of two, until nothing is left."""
    worker_id = f"h/{name}/r"
    info = WorkerInfo(worker_id, "h", 1, "prefork", 4, 4, ("default",), tasks, "1", refuses=refuses or {})
    workers.hello(lab.ledger, info)
    found: list[str] = []
    while True:
        woken = redispatch.wake(lab.ledger, worker_id, AFTER.worker_ttl, page=2)
        found += keys(woken.dispatches)
        if not woken.more:
            return sorted(found)


def test_who_comes_first_leaves_the_queue_as_it_is(lab: Lab) -> None:
    """Nobody put a message aside: a backlog that lies in Redis is not sent once more by each restart."""
    run_id = lab.run({"a": call("x"), "b": call("x")})
    assert came(lab, "1", "demo.x") == []
    lab.forward(31)  # it was killed
    assert came(lab, "2", "demo.x") == []
    workers.gone(lab.ledger, "h/1/r")
    workers.gone(lab.ledger, "h/2/r")
    assert came(lab, "3", "demo.x") == []
    lab.do(run_id, "a")


def test_who_comes_wakes_what_waited_for_its_code(lab: Lab) -> None:
    """Once, whoever asks again and however many come at once; never what another worker fits, or it refuses itself."""
    manifest = lab.flow({"a": call("x"), "b": call("x"), "c": call("x"), "d": call("y"), "e": call("z", queue="gpu")})
    run_id = lab.start()
    pair = f"demo.x@{manifest.hash}"
    assert came(lab, "0", "demo.other") == []
    assert came(lab, "1", "demo.y") == ["d"]  # published long ago, as far as anybody knows
    redispatch.confirm(lab.ledger, published(lab))
    assert came(lab, "2", "demo.x", "demo.y", refuses={pair: "it does not fit"}) == []
    assert came(lab, "3", "demo.x", "demo.y", "demo.z") == ["a", "b", "c"]
    assert came(lab, "4", "demo.x", "demo.y") == []
    workers.gone(lab.ledger, "h/3/r")
    workers.gone(lab.ledger, "h/4/r")
    lab.take(run_id, "b")
    assert came(lab, "5", "demo.x") == ["a", "c"]
