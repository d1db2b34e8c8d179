"""Publishing: what a message holds, how many round trips it takes, and what a dead broker does to it."""

import base64
import json
import uuid
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from orchestrator.core.facts import Dispatch
from orchestrator.delivery.publisher import Publisher
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.workers.conftest import Bench


def dispatches(count: int, **changes: object) -> list[Dispatch]:
    values = {"step_key": "s", "number": 1, "task": "chain.add", "queue": "default", "priority": 5, **changes}
    return [Dispatch(run_id=uuid.uuid4(), **values) for _ in range(count)]  # type: ignore[arg-type]


def client(bench: Bench) -> "redis.Redis":
    return redis.Redis.from_url(bench.settings.require_broker_url())


def commands(bench: Bench) -> int:
    """Reads that the server did from its sockets, about one per round trip."""
    with client(bench) as connection:
        return int(connection.info("stats")["total_reads_processed"])


def test_a_thousand_messages_are_a_handful_of_round_trips(bench: Bench) -> None:
    bench.publisher.publish(dispatches(1))
    before = commands(bench)
    assert bench.publisher.publish(dispatches(1000))
    spent = commands(bench) - before
    with client(bench) as connection:
        assert connection.llen("orchestrator:default\x06\x163") == 1001
    assert spent < 300  # the server reads one large pipeline in several pieces


def test_messages_sent_one_by_one_share_a_redis_client(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu makes one for each, which costs nearly as much as all the rest of sending it."""
    made: list[int] = []
    original = redis.Redis.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        made.append(1)
        original(self, *args, **options)

    monkeypatch.setattr(redis.Redis, "__init__", init)
    for _ in range(10):
        assert bench.publisher.publish(dispatches(1))
    assert bench.publisher.publish(dispatches(20))
    monkeypatch.undo()
    with client(bench) as connection:
        assert connection.llen("orchestrator:default\x06\x163") == 30
    assert len(made) <= 2


def test_a_message_holds_ids_and_a_short_label_only(bench: Bench) -> None:
    (one,) = dispatches(1)
    bench.publisher.publish([one])
    with client(bench) as connection:
        raw = json.loads(connection.lindex("orchestrator:default\x06\x163", 0))
    args, kwargs, _ = json.loads(base64.b64decode(raw["body"]))
    assert args == [str(one.run_id), "s", 1]
    assert kwargs == {}
    assert raw["headers"]["id"] == f"{one.run_id}:s:1"
    assert raw["headers"]["argsrepr"] == f"{str(one.run_id)[-12:]}/s"


def test_priorities_share_four_lists(bench: Bench) -> None:
    for priority in range(10):
        bench.publisher.publish(dispatches(1, priority=priority, queue="mail"))
    with client(bench) as connection:
        lengths = [
            connection.llen(f"orchestrator:mail{suffix}") for suffix in ("", "\x06\x163", "\x06\x166", "\x06\x169")
        ]
    assert lengths == [3, 3, 3, 1]


def test_what_was_sent_is_confirmed(bench: Bench) -> None:
    """No keeper runs here: the publisher itself says so to the ledger."""
    bench.start("chain", n=1)

    def published() -> bool:
        with bench.ledger.engine.connect() as connection:
            return bool(
                connection.exec_driver_sql(
                    "SELECT bool_and(published_at IS NOT NULL) FROM flow_step_dispatches"
                ).scalar()
            )

    eventually(published)


def test_a_dead_broker_raises_nothing_and_is_not_asked_for_each_message(bench: Bench) -> None:
    nobody = Proxy("redis://127.0.0.1:1/0")
    settings = bench.settings.model_copy(update={"broker_url": SecretStr(nobody.url)})
    publisher = Publisher(None, settings, bench.ledger)
    assert [publisher.publish(dispatches(1)) for _ in range(50)] == [False] * 50
    assert 1 <= len(nobody.attempts) <= 10
    publisher.close()
    nobody.close()
