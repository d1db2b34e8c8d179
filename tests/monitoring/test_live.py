"""A real Prometheus watches a real installation while faults are done to it; all panels are asked there."""

import urllib.request
from pathlib import Path

import pytest

from tests.monitoring import files
from tests.monitoring.faults import FAULTS, Parts, healthy, tried
from tests.monitoring.site import Site, site
from tests.support import prometheus


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
        for told in tried(parts, *FAULTS):
            assert told.told == ["firing", "resolved"], told
            assert told.others == frozenset(), told


def busy(made: Site) -> None:
    """Some of what panels show."""
    made.run("steady", 5)
    made.run("failing", 2)
    for path in ("/api/runs", "/api/runs?wait=1", "/api/nowhere"):
        request = urllib.request.Request(made.api + path, headers={"Authorization": f"Bearer {made.key}"})
        try:
            urllib.request.urlopen(request, timeout=20).close()
        except urllib.error.HTTPError as exc:
            exc.close()


def panels_that_err(made: Site) -> list[str]:
    found = []
    for where, query in files.queries():
        try:
            made.prometheus.query(files.filled(query))
        except AssertionError as exc:
            found.append(f"{where}: {exc}")
    return found
