"""Each event once for each subscription that it is for, whoever commits late and whoever dies."""

import json
import random
import threading
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection

from orchestrator.core.subscriptions import TOLD
from orchestrator.engine import faults
from orchestrator.engine.runs import delete_run
from orchestrator.engine.subscriptions import feed, manage
from orchestrator.engine.sweeps import retention
from orchestrator.errors import QueryInvalid, UsageError
from orchestrator.ledger import reads, subscriptions
from orchestrator.ledger.stream import Snapshot
from orchestrator.ledger.subscriptions import SubscriptionRow
from tests.engine.subscriptions.conftest import ANN, GIVE_UP, Outbox
from tests.support.factories import Lab, after, call
from tests.support.race import race

HOOK = "https://hooks.example.com/x"


class Dies(BaseException):
    pass


def test_what_happens_after_it_was_made_is_told_once(outbox: Outbox) -> None:
    outbox.finish()
    outbox.subscribe("crm", HOOK)
    made = [outbox.finish() for _ in range(3)]
    assert (outbox.feed(), outbox.feed()) == (3, 0)
    rows = outbox.rows()
    assert [str(row.run_id) for row in rows] == made
    assert {(row.type, row.state, row.tries) for row in rows} == {("run.succeeded", "pending", 0)}


def test_it_says_which_run_and_where_to_look_and_no_values(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK, ["run.failed", "step.failed"])
    run_id = outbox.lab.start(body={"card": "4111"})
    outbox.lab.do_fail(run_id, "a")
    outbox.feed()
    step, run = (reads.notifications.get(outbox.lab.ledger, row.id).data for row in outbox.rows())
    error = {"type": "ValueError", "message": "boom", "step": "a"}
    place = {"run_id": str(run_id), "flow": "demo", "url": f"https://flows.example.com/api/runs/{run_id}"}
    assert isinstance(run, dict)
    assert isinstance(step, dict)
    assert {**run, "event_id": 0} == {**place, "event_id": 0, "status": "failed", "error": error}
    assert {**step, "event_id": 0} == {**place, "event_id": 0, "step": "a", "attempt": 1, "error": error}


def test_a_wait_for_a_person_is_told_as_an_approval(outbox: Outbox) -> None:
    outbox.subscribe("people", HOOK, ["approval.asked"])
    outbox.subscribe("waits", HOOK, ["step.waiting"])
    ship = {"approval": {"title": "Ship it?", "to": "boss"}}
    outbox.lab.run({"ship": ship, "nap": {"sleep": "1d"}, "b": after("nap")}, name="asks")
    outbox.feed()
    (asked,), (waits,) = outbox.rows("people"), outbox.rows("waits")
    data = [reads.notifications.get(outbox.lab.ledger, row.id).data for row in (asked, waits)]
    assert [one["step"] for one in data if isinstance(one, dict)] == ["ship", "nap"]
    assert isinstance(data[0], dict)
    assert data[0]["wait"] == {"signal": "ship", "title": "Ship it?", "to": "boss"}


def test_a_query_says_of_which_runs(outbox: Outbox) -> None:
    outbox.lab.flow({"a": call(), "b": call(run_after={"a": ["succeeded"]})}, name="other")
    outbox.subscribe("crm", HOOK, q="flow:other -tag:test")
    outbox.finish()
    runs = [outbox.lab.start("other", tags=tags) for tags in ((), ("test",))]
    for run_id in runs:
        outbox.lab.do(run_id, "a", "b")
    assert outbox.feed() == 1
    assert [row.run_id for row in outbox.rows()] == runs[:1]


@pytest.mark.parametrize("facts", [{"types": ["run.faild"]}, {"address": "ftp://x"}, {"address": "https://u@x/"}])
def test_what_does_not_fit_is_refused(outbox: Outbox, facts: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Fix: "):
        manage.wanted_of(**{"address": HOOK, "types": ["run.failed"], **facts})


def test_a_query_that_does_not_fit_is_refused(outbox: Outbox) -> None:
    with pytest.raises(QueryInvalid):
        outbox.subscribe("crm", HOOK, q="statuss:failed")


def test_each_subscription_is_told_for_itself(outbox: Outbox) -> None:
    outbox.subscribe("one", HOOK)
    outbox.subscribe("two", HOOK, ["run.accepted", "run.succeeded"])
    outbox.finish()
    assert outbox.feed() == 3
    assert [row.type for row in outbox.rows("two")] == ["run.accepted", "run.succeeded"]


def test_one_that_is_disabled_is_told_what_happens_once_it_is_enabled(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    manage.update(outbox.lab.ledger, "crm", {}, ANN, enabled=False)
    outbox.finish()
    assert outbox.feed() == 0
    manage.update(outbox.lab.ledger, "crm", {}, ANN, enabled=True)
    run_id = outbox.finish()
    outbox.feed()
    assert [str(row.run_id) for row in outbox.rows()] == [run_id]


def test_pages_are_read_to_the_end(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK, list(TOLD))
    runs = [outbox.finish() for _ in range(10)]
    pages = 0
    while feed.page(outbox.lab.ledger, GIVE_UP, limit=3).more:
        pages += 1
        runs.append(outbox.finish())  # what happens meanwhile has its turn
        assert pages < 50
        if pages == 5:
            break
    outbox.feed()
    told = [str(row.run_id) for row in outbox.rows() if row.type == "run.succeeded"]
    assert sorted(told) == sorted(runs)


def test_a_keeper_that_dies_leaves_both_or_neither(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    outbox.finish()

    def die() -> None:
        raise Dies

    faults.arm("feed.moved", die)
    with pytest.raises(Dies):
        outbox.feed()
    faults.disarm()
    assert outbox.rows() == []
    assert outbox.feed() == 1


def test_two_keepers_at_once_write_each_row_once(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    for _ in range(20):
        outbox.finish()
    race(*[outbox.feed] * 4)
    outbox.feed()
    assert len(outbox.rows()) == 20


def test_what_commits_late_is_told(outbox: Outbox) -> None:
    """Eight writers commit out of order, some half a second late, some never; keepers go on meanwhile. What is told is
    what the ledger has."""
    lab = outbox.lab
    run_id = UUID(outbox.finish())
    outbox.subscribe("crm", HOOK, ["run.retried"])
    seed = random.randrange(10**6)
    print("seed", seed)
    stop = threading.Event()

    def write(number: int) -> None:
        rng = random.Random(seed + number)
        with psycopg.connect(lab.url) as connection:
            for _ in range(40):
                connection.execute("INSERT INTO flow_events (run_id, type) VALUES (%s, 'run.retried')", [run_id])
                stop.wait(rng.choice((0, 0, 0.01, 0.1, 0.3)) * rng.random())
                connection.rollback() if rng.random() < 0.2 else connection.commit()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        feed.page(lab.ledger, GIVE_UP, limit=7)
    outbox.feed()
    there = lab.rows("SELECT id FROM flow_events WHERE type = 'run.retried' ORDER BY id")
    told = lab.rows("SELECT event_id FROM flow_notifications ORDER BY event_id")
    assert [row["event_id"] for row in told] == [row["id"] for row in there]
    assert len(told) > 100


def test_the_feed_is_never_beyond_what_a_crash_leaves(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of transactions that leave nothing on the disk are given again when the server has crashed: those after
    the one that moves the feed are none that it has told of."""
    outbox.subscribe("crm", HOOK)
    every, begun = subscriptions.every, []

    def meanwhile(tx: Connection) -> list[SubscriptionRow]:
        with psycopg.connect(outbox.lab.url) as connection:
            for _ in range(5):
                row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
                begun.append(row[0] if row else 0)
                connection.rollback()
        return every(tx)

    monkeypatch.setattr(subscriptions, "every", meanwhile)
    outbox.finish()
    assert outbox.feed() == 1
    (row,) = outbox.lab.rows("SELECT seen FROM flow_notification_feed")
    assert Snapshot.parse(row["seen"]).high <= begun[-5]


def test_a_ledger_from_another_server_begins_anew(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    outbox.lab.execute("UPDATE flow_notification_feed SET seen = '99999999999:99999999999:'")
    outbox.finish()
    assert outbox.feed() == 0
    outbox.finish()
    assert outbox.feed() == 1


def test_without_subscriptions_nothing_is_asked(lab: Lab) -> None:
    outbox = Outbox(lab)
    outbox.flow()
    outbox.finish()
    assert outbox.feed() == 0


def test_what_is_over_is_removed_in_time(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    outbox.subscribe("gone", HOOK)
    outbox.finish()
    outbox.feed()
    manage.delete(outbox.lab.ledger, "gone", ANN)
    day = timedelta(days=1)
    assert retention.notifications(outbox.lab.ledger, day) == 1
    assert retention.notifications(outbox.lab.ledger, day) == 0
    outbox.lab.forward(timedelta(days=4))
    assert retention.notifications(outbox.lab.ledger, day) == 1, "it was not delivered in time"
    (row,) = outbox.rows()
    assert (row.state, row.error) == ("dead", "it was not tried in time")
    assert retention.notifications(outbox.lab.ledger, day) == 1
    assert outbox.rows() == []


def test_a_run_that_is_deleted_leaves_nothing_that_was_told_of_it(outbox: Outbox) -> None:
    outbox.subscribe("crm", HOOK)
    run_id = UUID(outbox.finish())
    outbox.finish()
    outbox.feed()
    delete_run.delete(outbox.lab.ledger, run_id, by="ann")
    assert run_id not in {row.run_id for row in outbox.rows()}
    assert len(outbox.rows()) == 1


def test_each_change_is_in_the_audit(outbox: Outbox) -> None:
    told = outbox.subscribe("crm", HOOK)
    manage.update(outbox.lab.ledger, "crm", {"q": "flow:demo"}, ANN)
    manage.rotate(outbox.lab.ledger, "crm", outbox.post.keyring, ANN)
    manage.delete(outbox.lab.ledger, "crm", ANN, reason="moved")
    rows = outbox.lab.rows("SELECT action, actor, was, became, reason FROM flow_audit ORDER BY id")
    actions = ["create", "update", "rotate", "delete"]
    assert [row["action"] for row in rows] == [f"subscription.{one}" for one in actions]
    assert rows[-1]["reason"] == "moved"
    assert told.secret is not None
    assert told.secret not in json.dumps(rows, default=str)
