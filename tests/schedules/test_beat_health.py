"""What a beat says to probes: whether its clock moves, and whether it leads or stands by."""

import urllib.request
from datetime import timedelta

import pytest

from orchestrator.servers.embedded.server import free_port
from tests.schedules.conftest import Field
from tests.support.beat_process import Beat
from tests.support.eventually import eventually
from tests.support.health import live, ready, until_ready


def beat(ground: Field, *, supervised: bool = False, faults: dict[str, str] | None = None) -> tuple[Beat, int]:
    """One that answers, and its port."""
    port = free_port()
    given = {"health_address": f"127.0.0.1:{port}", "hang_after": timedelta(seconds=2)}
    settings = ground.settings.model_copy(update=given)
    return ground.beat(settings=settings, ready=False, supervised=supervised, faults=faults), port


def test_one_beat_leads_and_the_other_stands_by_and_both_are_ready(ground: Field) -> None:
    _, first = beat(ground)
    assert until_ready(first).body["parts"]["role"] == {"ok": True, "detail": "leads"}
    _, second = beat(ground, supervised=True)
    assert until_ready(second).body["parts"]["role"] == {"ok": True, "detail": "stands by"}
    assert [live(port).status for port in (first, second)] == [200, 200]
    assert live(first).body["still_s"].keys() == {"beat-reconcile", "clock"}
    with urllib.request.urlopen(f"http://127.0.0.1:{first}/metrics", timeout=10) as answer:
        assert b'floworch_process_memory_bytes{role="main"} ' in answer.read()


@pytest.mark.slow
def test_a_clock_that_stands_still_turns_liveness(ground: Field) -> None:
    held, port = beat(ground, faults={"beat.loaded": "hold"})
    said = eventually(lambda: found if live_at(port) and (found := live(port)).status == 503 else None)
    assert said is not None
    assert list(said.body["hanging"]) == ["clock"]
    assert not ready(port).body["parts"]["clock"]["ok"]
    held.says("health.hangs loop=clock")
    (ground.folder / "beat.loaded.go").touch()
    until_ready(port)
    assert live(port).status == 200


def test_a_beat_that_is_told_to_stop_ends(ground: Field) -> None:
    told, port = beat(ground)
    until_ready(port)
    told.term()
    assert told.wait() == 0


def live_at(port: int) -> bool:
    """Whether it listens."""
    try:
        live(port)
    except OSError:
        return False
    return True
