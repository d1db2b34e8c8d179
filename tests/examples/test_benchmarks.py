"""The benchmark measures what it says, at sizes of next to nothing; no figure is asserted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import ALONE, USUAL, main, run
from benchmarks.figures import Figure, number, percentile, ratio
from benchmarks.report import Result, Row, markdown
from benchmarks.workloads import TINY, Samples
from tests.support.eventually import eventually
from tests.support.nursery import alive

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_workload_gives_its_rows() -> None:
    """Own servers, real workers of ours and of Celery, every row filled for everybody."""
    said: list[str] = []
    text = run(TINY, USUAL, said.append)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for what in (
        "chain of 5, runs/s",
        "CPU, PostgreSQL",
        "p95, start to observed end",
        "fan-out of 5",
        "one at a time",
        "chain of 5, 64 open, runs/s",
    ):
        (row,) = [line for line in rows if line.startswith(f"| {what}")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        empty = 4 if what == "CPU, PostgreSQL" else 0
        assert cells.count("–") == empty, row
    assert "Share of messages published twice: " in text
    assert any(line.startswith("backlog: ") for line in said)


@pytest.mark.slow
def test_ours_beside_itself_gives_its_figures() -> None:
    """A ledger with a history, pgbench, four processes, the counters of the servers, the memory."""
    text = run(TINY, list(ALONE), [].append)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    compared = {row[0]: row[1:] for row in rows if row[0]}
    assert {"chain of 5, runs/s", "finished steps/s", "CPU, all processes, ms per step"} <= compared.keys()
    assert not any("–" in cells for what, cells in compared.items() if "CPU" not in what)
    assert "commits that wait for the disk: **" in text
    assert text.count("MB per 100,000 steps") == 2
    assert "reconcile, Redis emptied to every entry back: **" in text
    assert "in one second: p50 **" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--only", "chian"],
            "there is no benchmark 'chian'; there are chain, latency, fan, starts, plain, backlog, "
            "history, finish, scale, costs, memory, schedules",
        ),
        (["--only", " , "], "no benchmark is named"),
        (["--output", "/nowhere/at/all.md"], "/nowhere/at/all.md is not a file in a folder that exists"),
        (["--slow"], "unrecognized arguments: --slow"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started for it."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_the_module_runs_as_a_program() -> None:
    """As `make bench` calls it."""
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--quick" in done.stdout


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.processes import Process

print(Process("sleeper", ["-c", "import time; time.sleep(600)"], {}, Path(sys.argv[1])).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells the child")
def test_a_benchmark_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    """Not even one that leads a group of its own, such as `orchestrator dev`."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    pid = int(done.stdout)
    eventually(lambda: not alive(pid))


def test_figures_are_medians_with_their_spread() -> None:
    """What the table prints."""
    assert Figure.of([3, 1, 2]) == Figure(2, 1, 3)
    assert Figure.of([300.4, 100, 200]).text() == "200 (100–300)"
    assert [number(value) for value in (0, 0.01234, 1.234, 12.34, 1234.5)] == ["0", "0.012", "1.23", "12.3", "1,234"]
    assert percentile(list(range(100)), 0.95) == 95
    assert (ratio(1, 4), ratio(1, 0)) == ("0.25", "–")


def test_a_contender_without_a_figure_leaves_a_gap() -> None:
    """A chord that did not end must not cost the table."""
    row = Row("speed, runs/s", {"ours": Figure.of([4.0]), "b": Figure.of([2.0])})
    text = markdown([Result("T", [row], ["a note"])], ["ours", "b", "c"], 60)
    assert "| speed, runs/s | 4.00 | 2.00 | **2.00** | – | – |" in text
    assert "- a note" in text


class Stuck:
    """A contender that never ends its first round."""

    name = "stuck"
    restarts = 0

    def restart(self) -> None:
        self.restarts += 1


def test_a_contender_that_does_not_end_loses_the_round_only() -> None:
    """Bare Celery may lose a message; the others are measured all the same, and the table says what happened."""
    stuck: Any = Stuck()
    said: list[str] = []

    def measure(one: Any) -> dict[str, float]:
        if not one.restarts:
            raise TimeoutError("a chain did not end")
        return {"speed": 1.0}

    samples = Samples("chain", [stuck], said.append)
    samples.rounds(3, measure)
    assert stuck.restarts == 1
    assert samples.rows() == [Row("speed", {"stuck": Figure(1.0, 1.0, 1.0)})]
    assert samples.notes == ["chain: stuck lost a round, because a chain did not end."]
