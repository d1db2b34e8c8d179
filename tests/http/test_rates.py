"""How much one may ask for, who counts it, and what is said about it."""

import logging
from datetime import timedelta

import pytest
import redis
from pydantic import SecretStr

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.engine.access import users
from orchestrator.http.rates import Rates, bucket_of
from orchestrator.settings import Settings
from tests.http.access import ROOT, bearer, key, served

NOWHERE = SecretStr("redis://127.0.0.1:1/0")


@pytest.fixture
def own(settings: Settings) -> Settings:
    """With keys in Redis that no other test has."""
    return settings.model_copy(update={"key_prefix": f"{id(settings)}:"})


def test_a_key_has_its_rate_over_all_replicas(own: Settings, stack: Client) -> None:
    first, second = bearer(key(stack, name="a")), bearer(key(stack, name="b"))
    with served(own, rate_reads=5) as one, served(own, rate_reads=5) as other:
        answers = [door.get("/api/flows", headers=first) for door in (one, other, one, other, one, other)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert [answer.headers["RateLimit"].split(";")[:2] for answer in answers[:2]] == [
            ['"reads"', "r=4"],
            ['"reads"', "r=3"],
        ]
        last = answers[-1]
        assert last.headers["RateLimit-Policy"] == '"reads";q=5;w=60'
        assert 1 <= int(last.headers["Retry-After"]) <= 60
        assert (last.json()["code"], last.headers["X-Content-Type-Options"]) == ("rate_limited", "nosniff")
        assert one.get("/api/flows", headers=second).status_code == 200


def test_each_kind_has_a_rate_of_its_own(own: Settings, stack: Client) -> None:
    headers = bearer(key(stack, name="a"))
    with served(own, rate_triggers=1, rate_keys=1, rate_writes=1) as door:

        def twice(path: str, body: object = None) -> list[int]:
            return [door.post(path, headers=headers, json=body).status_code for _ in range(2)]

        assert twice("/api/flows/hello/trigger", {"name": "x"}) == [201, 429]
        assert twice("/api/keys", {"name": "b"}) == [201, 429]
        assert twice("/api/flows/hello/enable") == [200, 429]
        assert door.get("/api/flows", headers=headers).status_code == 200
        assert stack.count_runs(flow="hello") == 1


def test_a_batch_counts_once(own: Settings, stack: Client) -> None:
    with served(own, rate_triggers=1) as door:
        inputs = {"inputs": [{"name": "x"}] * 20}
        answer = door.post("/api/flows/hello/trigger/batch", headers=bearer(key(stack)), json=inputs)
        assert (answer.status_code, len(answer.json()["items"])) == (201, 20)


def test_what_a_role_may_not_do_counts_too(own: Settings, stack: Client) -> None:
    headers = bearer(key(stack, Role.VIEWER))
    with served(own, rate_writes=2) as door:
        found = [door.post("/api/flows/hello/enable", headers=headers).status_code for _ in range(3)]
        assert found == [403, 403, 429]


def test_strangers_are_slowed_by_their_address(own: Settings, stack: Client) -> None:
    """And take nothing from those who have a key."""
    good = bearer(key(stack))
    with served(own, rate_strangers=3) as door:
        found = [door.get("/api/flows", headers=bearer("x")).status_code for _ in range(5)]
        assert found == [401] * 3 + [429] * 2
        assert door.get("/api/flows", headers=good).status_code == 200


def test_tries_to_sign_in_are_few(own: Settings, stack: Client) -> None:
    users.create(stack.ledger, "ann", Role.VIEWER, "four plain words here", ROOT)
    with served(own, rate_sign_ins=2) as door:

        def tried(name: str, password: str) -> int:
            return door.post("/api/session", json={"name": name, "password": password}).status_code

        assert [tried("ann", f"wrong words {n}") for n in range(3)] == [401, 401, 429]
        assert tried("ann", "four plain words here") == 429
        assert tried("bob", "four plain words here") == 401


def test_names_are_not_tried_from_everywhere_nor_many_from_one_place(own: Settings, stack: Client) -> None:
    proxied = {"proxy_depth": 1, "trusted_proxies": ("192.0.2.0/24",)}
    with served(own, rate_sign_ins=1, rate_strangers=3, **proxied) as door:

        def tried(name: str, address: str) -> int:
            given = {"name": name, "password": "wrong words in here"}
            return door.post("/api/session", json=given, headers={"X-Forwarded-For": address}).status_code

        assert [tried(f"user {n}", "198.51.100.1") for n in range(4)] == [401] * 3 + [429]
        assert [tried("ann", f"203.0.113.{n}") for n in range(11)] == [401] * 10 + [429]
        assert tried("bob", "203.0.113.1") == 401


def test_zero_is_no_limit(own: Settings, stack: Client) -> None:
    headers = bearer(key(stack))
    with served(own, rate_reads=0) as door:
        answers = [door.get("/api/flows", headers=headers) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert "RateLimit" not in answers[0].headers


def test_while_redis_is_away_each_replica_gives_its_share(
    own: Settings, stack: Client, caplog: pytest.LogCaptureFixture
) -> None:
    headers = bearer(key(stack))
    with caplog.at_level(logging.WARNING), served(own, broker_url=NOWHERE, rate_reads=6, api_replicas=3) as door:
        assert [door.get("/api/flows", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
    (said,) = [record for record in caplog.records if record.getMessage() == "api.rates_local"]
    assert vars(said)["share"] == "1/3"


def test_redis_is_asked_again_when_it_is_back(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.http import rates as module

    rates = Rates(own)
    try:
        real = rates._shared
        assert real is not None
        monkeypatch.setattr(module, "_AGAIN_S", 0.0)

        class Away:
            def hit(self, *given: object) -> bool:
                raise redis.ConnectionError("away")

        assert rates.take("a", 2).left == 1
        monkeypatch.setattr(rates, "_shared", Away())
        assert rates.take("a", 2).left == 1  # its own count
        monkeypatch.setattr(rates, "_shared", real)
        assert rates.take("a", 2).left == 0
        assert not rates.take("a", 2).allowed
    finally:
        rates.close()


def test_who_comes_again_after_that_time_is_let_in(own: Settings) -> None:
    """`Retry-After` is a promise."""
    from tests.support.eventually import eventually

    rates = Rates(own)
    try:
        assert [rates.hit("a", 2, timedelta(seconds=1)) for _ in range(3)] == [None, None, 1]
        eventually(lambda: rates.hit("a", 2, timedelta(seconds=1)) is None, timeout=5)
    finally:
        rates.close()


def test_redis_has_no_name_and_no_key(own: Settings, stack: Client, broker_url: str) -> None:
    text = key(stack, name="secret-project")
    with served(own) as door:
        door.get("/api/flows", headers=bearer(text))
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        found = [str(name) for name in client.scan_iter(f"{own.key_prefix}*")]
    assert len(found) == 1
    assert text.split("_")[1] not in found[0]
    assert bucket_of("reads", "a", "b") != bucket_of("reads", "ab")
