"""What the API counts of itself, and whom it shows that."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Role, Scope
from orchestrator.engine.flows import register
from orchestrator.settings import Settings
from tests.http.access import UNLIMITED, bearer, key, served
from tests.http.test_webhooks import SECRET, heard, post
from tests.support.deliveries import KEY

Seen = dict[str, dict[tuple[str, ...], float]]


def scraped(door: TestClient, **headers: str) -> Seen:
    """By name without the prefix, then by the values of labels; buckets left out."""
    answer = door.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    seen: Seen = defaultdict(dict)
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if "le" not in sample.labels:
                seen[sample.name.removeprefix("floworch_")][tuple(sample.labels.values())] = sample.value
    return seen


@pytest.fixture
def door(settings: Settings, stack: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Where anybody may scrape."""
    monkeypatch.setenv(SECRET, KEY)
    monkeypatch.setenv("WEBHOOK_TEST_TEAMS", "YSBrZXkgb2YgMzIgYnl0ZXMsIGFzIFRlYW1zIGhhcy4=")
    register.register(stack.ledger, heard.manifest)
    with served(settings, metrics="open", proxy_depth=1, **UNLIMITED) as made:
        yield made


# ---- whom ----


def test_strangers_are_shown_nothing_and_a_key_for_metrics_nothing_else(settings: Settings, stack: Client) -> None:
    with served(settings) as door:
        assert door.get("/metrics").status_code == 401
        scraper = bearer(key(stack, Role.VIEWER, frozenset({Scope.METRICS})))
        assert scraped(door, **scraper)["exporter_up"] == {(): 1}
        assert door.get("/api/workers", headers=scraper).status_code == 403
        other = bearer(key(stack, Role.ADMIN, frozenset({Scope.RUNS})))
        assert door.get("/metrics", headers=other).status_code == 403


def test_they_can_be_switched_off(settings: Settings, stack: Client) -> None:
    with served(settings, metrics="off") as door:
        answer = door.get("/metrics", headers=bearer(key(stack)))
        assert answer.status_code == 404
        assert door.get("/health/liveness").status_code == 200


def test_open_is_open_for_metrics_only(door: TestClient) -> None:
    assert scraped(door)["exporter_up"] == {(): 1}
    assert door.get("/api/runs").status_code == 401


def test_openmetrics_is_given_to_whoever_asks_for_it(door: TestClient) -> None:
    answer = door.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# ---- what ----


def test_requests_are_counted_by_their_route_whatever_strangers_send(door: TestClient, stack: Client) -> None:
    ours = bearer(key(stack))
    run_id = stack.start("hello", name="you").id
    for _ in range(3):
        assert door.get(f"/api/runs/{run_id}", headers=ours).status_code == 200
    door.get("/api/runs/nonsense", headers=ours)
    door.get(f"/api/runs/{run_id}?wait=0.1", headers=ours)
    for n in range(20):
        door.get(f"/wp-admin/{n}")
        door.request(f"M{n}", "/api/runs")
    counts = scraped(door)["api_requests_seconds_count"]
    assert counts[("GET", "run_show", "2xx")] == 3
    assert counts[("GET", "run_show", "4xx")] == 1
    assert counts[("GET", "none", "4xx")] == 20
    assert sum(n for (method, *_), n in counts.items() if method == "OTHER") == 20
    (waited,) = (labels for labels in counts if labels[1].endswith("?wait"))
    assert waited[1] == "run_show?wait"
    assert len(counts) <= 6


def test_how_long_they_took_is_in_seconds(door: TestClient) -> None:
    door.get("/health/liveness")
    assert 0 < scraped(door)["api_requests_seconds_sum"][("GET", "health_liveness", "2xx")] < 10


def test_deliveries_are_counted_by_scheme_and_by_the_gate_that_refused_them(door: TestClient) -> None:
    assert post(door, {"word": "hey"}).status_code == 202
    assert post(door, {"word": "hey"}).status_code == 200
    assert post(door, {"word": "hoy"}, **{"X-Webhook-Signature": "sha256=00"}).status_code == 401
    assert post(door, {"word": "hey"}, "near", **{"X-Forwarded-For": "203.0.113.66"}).status_code == 403
    for n in range(5):
        assert post(door, {"word": "hey"}, slug=f"guess-{n}").status_code == 404
    seen = scraped(door)
    assert seen["webhooks_received_total"] == {("generic",): 4, ("unknown",): 5}
    assert seen["webhooks_rejected_total"] == {
        ("signature", "generic"): 1,
        ("address", "generic"): 1,
        ("webhook_not_found", "unknown"): 5,
    }
    assert seen["webhooks_body_bytes_count"] == {("generic",): 4}
    assert seen["webhooks_processing_seconds_count"] == {("generic",): 4, ("unknown",): 5}


def test_what_its_callers_start_and_do_is_counted_here(door: TestClient, stack: Client) -> None:
    ours = bearer(key(stack))
    started = door.post("/api/flows/hello/trigger", json={"name": "you"}, headers=ours)
    assert started.status_code in (201, 202), started.text
    run_id = started.json()["id"]
    assert door.post(f"/api/runs/{run_id}/cancel", json={"reason": "enough"}, headers=ours).is_success
    seen = scraped(door)
    assert seen["runs_started_total"][("hello", "manual")] == 1
    assert seen["runs_completed_total"][("hello", "cancelled")] == 1
    assert seen["operators_actions_total"][("cancel",)] == 1
    assert seen["process_memory_bytes"][("main",)] > 10_000_000
    assert seen["database_pool"][("size",)] >= 1
