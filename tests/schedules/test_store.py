"""RedBeat's keys in a real Valkey: one holder of the lock, and no write without it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from redbeat.schedulers import RedBeatSchedulerEntry, ensure_conf

from orchestrator.core.timing import Every, Timing
from orchestrator.ledger.schedules import MirrorRow
from orchestrator.schedules import message
from orchestrator.schedules.message import Hint, Inbox, send
from orchestrator.schedules.mirror import Changes, Found, Put
from orchestrator.schedules.store import LockLost, Store
from orchestrator.servers import redbeat
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import App, make_app
from tests.support.eventually import eventually

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
Make = Callable[..., Store]


@pytest.fixture
def plain(broker_url: str) -> Settings:
    return Settings(broker_url=SecretStr(broker_url))


@pytest.fixture
def app(plain: Settings) -> App:
    made = make_app(plain, {})
    ensure_conf(made)
    return made


@pytest.fixture
def client(plain: Settings) -> Any:
    with redbeat.client(plain) as made:
        yield made


@pytest.fixture
def store(app: App, client: Any) -> Make:
    return lambda token="a", lock_s=10.0: Store(app, client, token, lock_s)


class Row(MirrorRow):
    """A row that knows its timing by itself."""

    def timing(self) -> Timing:
        return Timing(Every("1m"))


def put(key: str = "k", version: int = 1, due: datetime = AT, expected: float | None = None) -> Put:
    made = Row(
        flow="f",
        trigger_key=key,
        definition={},
        expression=None,
        zone=None,
        next_tick_at=due,
        due_at=due,
        version=version,
        enabled=True,
    )
    return Put(made, expected)


LOCK_S = 3.0
"""Longer than a loaded machine takes for three commands."""


def test_one_beat_holds_the_lock_until_it_runs_out_or_is_given_back(store: Make) -> None:
    first, second = store("a", LOCK_S), store("b", LOCK_S)
    assert (first.hold().fresh, first.hold().fresh) == (True, False)
    refused = second.hold()
    assert not refused.ours
    assert 0 < refused.left_s <= LOCK_S
    taken = eventually(lambda: hold if (hold := second.hold()).ours else None)
    assert taken is not None
    assert taken.fresh
    assert not first.release()
    assert second.release()
    assert first.hold().fresh


def test_a_successor_with_the_same_name_goes_on_at_once(store: Make) -> None:
    """A supervised beat that died has certainly ended when the next one starts."""
    assert store("a").hold().fresh
    assert store("a").hold().ours


def test_nothing_is_written_without_the_lock(store: Make) -> None:
    holder, other = store("a"), store("b")
    holder.hold()
    holder.apply(Changes((put(),)))
    (due,) = holder.due(AT.timestamp()).due
    for write in (
        lambda: other.apply(Changes((put("x"),))),
        lambda: other.apply(Changes((), ("f/k",))),
        lambda: other.advance([due]),
    ):
        with pytest.raises(LockLost):
            write()
    assert holder.found() == {"f/k": Found(1, AT.timestamp())}


def test_entries_are_due_in_order_and_move_on(store: Make) -> None:
    held = store()
    held.hold()
    later = AT + timedelta(seconds=30)
    held.apply(Changes((put("b"), put("a"), put("c", due=later))))
    page = held.due(AT.timestamp())
    assert [one.entry.args for one in page.due] == [["f", "a"], ["f", "b"]]
    assert (page.next_score, page.full, page.broken) == (later.timestamp(), False, 0)
    for one in page.due:
        one.entry.advance(AT)
    held.advance(page.due)
    assert held.due(AT.timestamp()).due == ()
    assert held.found(["f/a", "f/x"]) == {"f/a": Found(1, (AT + timedelta(minutes=1)).timestamp())}
    assert held.count() == 3


def test_redbeat_itself_can_read_our_entries(store: Make, app: App, client: Any) -> None:
    held = store()
    held.hold()
    held.apply(Changes((put(),)))
    app.redbeat_redis = client
    from orchestrator.schedules.entry import LedgerEntry

    entry = LedgerEntry.from_key(RedBeatSchedulerEntry.generate_key(app, "f/k"), app=app)
    assert (entry.due_at, entry.args) == (AT, ["f", "k"])


def test_an_entry_that_changed_meanwhile_does_not_move_on(store: Make) -> None:
    held = store()
    held.hold()
    held.apply(Changes((put(),)))
    page = held.due(AT.timestamp())
    page.due[0].entry.advance(AT)
    soon = AT + timedelta(seconds=5)
    held.apply(Changes((put(version=2, due=soon),)))
    held.advance(page.due)
    assert held.found() == {"f/k": Found(2, soon.timestamp())}
    held.apply(Changes((), ("f/k",)))
    held.advance(page.due)
    assert held.found() == {}


def test_a_correction_gives_way_to_a_beat_that_fired(store: Make) -> None:
    held = store()
    held.hold()
    held.apply(Changes((put(),)))
    held.apply(Changes((put(due=AT + timedelta(seconds=9), expected=1.0),)))
    assert held.found()["f/k"].score == AT.timestamp()
    held.apply(Changes((put(due=AT + timedelta(seconds=9), expected=AT.timestamp()),)))
    assert held.found()["f/k"].score == AT.timestamp() + 9


def test_what_cannot_be_read_stops_nobody(store: Make, client: Any, app: App) -> None:
    held = store()
    held.hold()
    held.apply(Changes((put("a"), put("b"), put("c"), put("d"), put("e"))))
    prefix = app.redbeat_conf.key_prefix
    client.delete(f"{prefix}f/a")
    client.hset(f"{prefix}f/b", "definition", "{")
    client.delete(f"{prefix}f/c")
    client.set(f"{prefix}f/c", "text")
    client.hdel(f"{prefix}f/e", "version")  # as RedBeat's own `save` writes it
    assert held.found()["f/a"].version is None
    page = held.due(AT.timestamp())
    assert ([one.entry.name for one in page.due], page.broken) == (["f/d"], 4)
    assert held.count() == 1
    page.due[0].entry.advance(AT)
    held.advance(page.due)


def test_ticks_go_through_the_broker_and_a_backlog_stays_small(
    app: App, plain: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "KEPT", 5)
    hints = [Hint("f", str(number), AT) for number in range(12)]
    send(app, hints, plain.key_prefix)
    client.lpush(f"{plain.key_prefix}{message.QUEUE}", "{}", "nonsense")
    inbox = Inbox(app)
    assert inbox.take(1) == hints[-5:]
    assert inbox.take(0.1) == []
    inbox.close()
