"""Rates are shared by all processes, and held by each for itself while Redis is away."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from orchestrator.http import rates
from orchestrator.http.rates import Rates, rates_of
from orchestrator.settings import Settings

MINUTE = timedelta(minutes=1)


def test_two_processes_share_a_limit(settings: Settings) -> None:
    one, other = rates_of(settings), rates_of(settings)
    assert [each.hit("a", 3, MINUTE) for each in (one, other, one)] == [None] * 3
    wait = other.hit("a", 3, MINUTE)
    assert wait is not None
    assert 1 <= wait <= 60
    assert other.hit("b", 3, MINUTE) is None


def test_while_redis_is_away_each_process_holds_the_limit_for_itself(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    one, other = rates_of(away), rates_of(away)
    for each in (one, other):
        assert [each.hit("a", 2, MINUTE) is None for _ in range(3)] == [True, True, False]
    assert [record.message for record in caplog.records] == ["rates.away"] * 2  # not for each request


def test_redis_is_asked_again_when_it_may_be_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_REST_S", 0.0)
    made = rates_of(settings)
    shared = made._shared
    assert shared is not None
    monkeypatch.setattr(shared, "hit", lambda *_: 1 / 0)
    assert [made.hit("a", 1, MINUTE) is None for _ in range(2)] == [True, False]
    monkeypatch.undo()
    assert made.hit("a", 1, MINUTE) is None  # the shared count has none yet


def test_without_a_broker_a_process_counts_alone() -> None:
    made = Rates(None, share=0.5)
    assert [made.hit("a", 4, MINUTE) is None for _ in range(3)] == [True, True, False]
