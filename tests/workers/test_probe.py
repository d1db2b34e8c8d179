"""The consumption probe's judgement, on a worker of paper."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.keeper import probe as module
from orchestrator.workers.keeper.probe import Probe
from orchestrator.workers.state import state_of


class Channel:
    def __init__(self) -> None:
        self.room = True
        self.qos = SimpleNamespace(can_consume=lambda: self.room)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: now.s)
    return now


@pytest.fixture
def parts(settings: Settings, clock: Any) -> Any:
    state = state_of(make_app(settings, {}))
    channel, calls = Channel(), []
    hub = SimpleNamespace(call_soon=calls.append)
    consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=channel), hub=hub, connection=object())
    probe = Probe(state, SimpleNamespace(consumer=consumer))
    return SimpleNamespace(probe=probe, channel=channel, calls=calls, state=state, clock=clock, consumer=consumer)


def ticks(parts: Any, count: int) -> None:
    for _ in range(count):
        parts.probe.tick()
        parts.clock.s += parts.probe.interval_s


def test_a_silent_consumer_is_reconnected_and_then_the_process_ends(
    parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    ticks(parts, 4)
    assert parts.calls == [module._reset]
    assert not parts.probe.consuming
    with pytest.raises(ConnectionResetError):
        parts.calls[0]()
    ticks(parts, 4)
    assert ended == [70]


def test_a_returning_probe_is_all_it_takes(parts: Any) -> None:
    for number in range(1, 10):
        ticks(parts, 1)
        parts.probe.returned(f"{parts.state.worker_id}:{number}")
    assert parts.calls == []
    assert parts.probe.consuming


def test_a_full_worker_takes_nothing_rightly(parts: Any) -> None:
    parts.channel.room = False
    ticks(parts, 10)
    assert parts.calls == []


def test_a_broker_that_cannot_be_reached_proves_nothing(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks(parts, 2)

    def refuse() -> None:
        raise ConnectionError

    monkeypatch.setattr(parts.probe, "_send", refuse)
    for _ in range(10):
        with pytest.raises(ConnectionError):
            parts.probe.tick()
        parts.probe.forget_on_outage()
        parts.clock.s += parts.probe.interval_s
    assert parts.calls == []


def test_a_consumer_that_has_not_noticed_yet_that_redis_is_back_is_given_its_time(parts: Any) -> None:
    """After a long outage it pauses for 30 s between two attempts: longer than three probes of a quick keeper."""
    connection, parts.consumer.connection = parts.consumer.connection, None
    ticks(parts, int(module._RECONNECT_S / 2 / parts.probe.interval_s))
    parts.consumer.connection = connection
    ticks(parts, 3)
    assert parts.calls == []


def test_a_consumer_that_never_comes_back_is_not_waited_for(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    parts.consumer.connection = None
    ticks(parts, int(module._RECONNECT_S / parts.probe.interval_s) + 10)
    assert parts.calls == [module._reset]
    assert ended[:1] == [70]
