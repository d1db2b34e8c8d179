"""`benchmarks.fill` makes a ledger with a history."""

import pytest

from benchmarks import fill
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.sweeps import retention
from orchestrator.ledger import listing, reads
from orchestrator.ledger.tx import Ledger


def test_a_ledger_is_filled_with_runs_like_real_ones(
    empty_db_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every table of a run has its rows, the ids are in the order of time, and the ledger goes on working."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", empty_db_url)
    monkeypatch.setattr(fill, "PAGE", 150)
    assert fill.main(["--runs", "400"]) == 0
    assert "400 of 400 runs" in capsys.readouterr().out
    ledger = Ledger.connect(empty_db_url)
    rows = listing.list_runs(ledger, limit=1000)
    assert [row.created_at for row in rows] == sorted((row.created_at for row in rows), reverse=True)
    by_status = {status: sum(row.status is status for row in rows) for status in FINAL_RUN}
    assert by_status == {"succeeded": 394, "failed": 5, "cancelled": 5, "timed_out": 0}
    assert len({row.key for row in rows}) == 42
    for row in (rows[10], next(row for row in rows if row.status == "failed")):
        assert len(reads.steps.page(ledger, row.id)) == 5
        kinds = [event.type for event in reads.events.of_run(ledger, row.id)]
        assert (kinds[0], kinds[-1]) == ("run.accepted", f"run.{row.status}")
        assert kinds.count("step.started") == 5
    assert retention.runs(ledger, rows[0].created_at - rows[200].created_at, page=10) == 10
    ledger.close()


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--runs", "1", "--days", "0"]])
def test_nothing_is_filled_with_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fill.main(arguments)
    assert "must be more than zero" in capsys.readouterr().err
