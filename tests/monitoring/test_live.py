"""A real Prometheus watches a real installation while faults are done to it; all panels are asked there."""

from pathlib import Path

import pytest

from tests.monitoring import files
from tests.monitoring.faults import FAULTS, Parts, healthy, tried
from tests.monitoring.site import Site, site
from tests.support import prometheus
from tests.support.eventually import eventually

EMPTY_UNLESS = {
    "floworch-flow: Lost with their process": "a process dies",
    "floworch-flow: Polls until ready: one of twenty takes more": "a step polls",
    "floworch-flow: Skipped": "a step is skipped",
    "floworch-flow: Waits for signals: one of twenty is longer": "a signal ends a wait",
    "floworch-ledger: Sets of labels without room": "there are thousands of them",
    "floworch-ledger: Since a backup, and since one was restored on trial": "one was recorded",
    "floworch-ledger: Slow statements": "a statement is slow",
    "floworch-overview: Deliveries: one of twenty is larger": "a webhook that there is gets a delivery",
    "floworch-overview: Starts refused": "a start is refused",
}
"""Panels that show nothing where that did not happen."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_alerts_fire_once_and_resolve_and_no_panel_errs(db_url: str, broker_url: str, tmp_path: Path) -> None:
    """The faults at once; `make test-alerts` does one after the other."""
    for program in ("prometheus", "prometheus-alertmanager"):
        prometheus.needed(program)
    with site(db_url, broker_url, tmp_path) as made:
        parts = Parts(made, made.worker(), made.beat())
        busy(made)
        healthy(made)
        assert panels_that_err(made) == []
        eventually(lambda: panels_without_series(made) <= set(EMPTY_UNLESS), interval=1, message="panels have series")
        for told in tried(parts, *FAULTS):
            assert told.told == ["firing", "resolved"], told
            assert told.others == frozenset(), told


def busy(made: Site) -> None:
    """Some of what panels show."""
    made.run("steady", 5)
    made.run("failing", 2)
    made.run("sleeping")
    cancelled = made.client.start("sleeping", number=2).id
    made.ask("/api/runs")
    made.ask("/api/nowhere")
    made.ask(f"/api/runs/{cancelled}?wait=1")
    made.ask(f"/api/runs/{cancelled}/cancel", b"{}")
    made.ask("/api/webhook/nobody", b"{}")


def panels_that_err(made: Site) -> list[str]:
    """Asked for what they show now."""
    return [where for where, found in asked(made).items() if isinstance(found, str)]


def panels_without_series(made: Site) -> set[str]:
    return {where for where, found in asked(made).items() if found == 0}


def asked(made: Site) -> dict[str, int | str]:
    """By panel, how many series its queries have, or the error."""
    told: dict[str, int | str] = {}
    for where, query in files.queries():
        before = told.get(where, 0)
        try:
            found = len(made.prometheus.query(files.filled(query)))
        except AssertionError as exc:
            told[where] = str(exc)
            continue
        if isinstance(before, int):
            told[where] = before + found
    return told
