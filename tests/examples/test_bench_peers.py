"""The benchmark beside peers, with stub drivers in the place of the peers: nothing is installed for it."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import workloads
from benchmarks.peers import __main__ as program
from benchmarks.peers import install as installing
from benchmarks.peers import measures, registry
from benchmarks.peers.driven import Driven, DriverFailed
from benchmarks.peers.install import MissingProgram, install
from benchmarks.peers.measures import Sizes, rounds
from benchmarks.peers.registry import PEERS
from benchmarks.peers.table import markdown
from benchmarks.processes import BenchFailed
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
TINY = Sizes(
    rounds=2, chain_s=0.01, latencies=3, latency_s=0.01, fans=(5, 50), fan_s=0.01, starts=10, starts_at_once=20
)
STUB = """
import os, subprocess, sys, time
from benchmarks.peers.lines import serve

class Stub:
    def __init__(self):
        print("a library that prints")
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.tell("up", self.child.pid)
    def tell(self, *words):
        with open("told", "a") as file:
            print(NAME, *words, file=file)
    def chains(self, count): return self.work(count)
    def plain(self, count): return self.work(count)
    def chain(self, count): return self.work(1)
    def fan(self, count): return self.work(count)
    def start_each(self, count): return self.work(count)
    def start_many(self, count): return self.work(count)
    def work(self, count):
        time.sleep(0.0005 * count)
        return 0.0005 * count
    def close(self):
        self.tell("down")

NAME = sys.argv[1]
"""


@pytest.fixture(autouse=True)
def _no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is asserted that a rest makes better."""
    monkeypatch.setattr(workloads, "_REST_S", 0.01)
    monkeypatch.setattr(measures, "_SETTLE_S", 0.0)


def driven(folder: Path, name: str, more: str = "") -> Driven:
    script = folder / f"{name}.py"
    script.write_text(f"{STUB}\n{more}\nserve(Stub)\n")
    return Driven(name, [sys.executable, str(script), name], {}, {}, folder)


def told(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "told").read_text().splitlines()]


def test_every_round_measures_everybody_once_and_alone(tmp_path: Path) -> None:
    """Who is not being measured is not running, so its polling costs nobody anything."""
    said: list[str] = []
    makers = {name: lambda name=name: driven(tmp_path, name) for name in ("a", "b")}
    rows, notes = rounds(makers, TINY, said.append)
    assert notes == []
    assert [words[:2] for words in told(tmp_path)] == [[name, what] for name in "abab" for what in ("up", "down")]
    wanted = [measures.RUNS, measures.STEPS, measures.CPU, measures.PLAIN]
    wanted += [measures.P50, measures.P95]
    wanted += [measures.fan_name(5), measures.fan_name(50), measures.ONE_BY_ONE, measures.AT_ONCE]
    assert [row.what for row in rows] == wanted
    assert all(set(row.values) == {"a", "b"} for row in rows)
    found = {row.what: row.values["a"] for row in rows}
    assert found[measures.P50].middle == pytest.approx(0.5)
    assert found[measures.fan_name(50)].middle == pytest.approx(0.5)
    assert found[measures.RUNS].low <= found[measures.RUNS].middle <= found[measures.RUNS].high <= 2_000
    assert said[0] == "round 1/2: a"


def test_what_a_driver_started_ends_with_it(tmp_path: Path) -> None:
    one = driven(tmp_path, "a")
    child = int(told(tmp_path)[0][2])
    assert psutil.pid_exists(child)
    one.close()
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


FAILS_ONCE = """
def fan(self, count):
    if os.path.exists("failed"): return self.work(count)
    open("failed", "w").close()
    {how}
Stub.fan = fan
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raise ValueError('no table')", "its driver failed: ValueError: no table"),
        ("os._exit(3)", "its driver ended or lost the thread: The driver of a ended"),
        ("os.write(1, b'x'); os.close(1); time.sleep(60)", "there was no answer within 2 s"),
    ],
)
def test_a_driver_that_fails_loses_one_workload_of_one_round(
    how: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Driven, "patience_s", 2.0)
    rows, notes = rounds({"a": lambda: driven(tmp_path, "a", FAILS_ONCE.format(how=how))}, TINY, lambda _: None)
    assert notes == [f"fan-out: a lost a round, because {why}."]
    found = {row.what: row.values["a"] for row in rows}
    assert measures.AT_ONCE in found
    assert measures.fan_name(5) in found


def test_a_driver_that_does_not_start_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    said: list[str] = []
    makers = {
        "broken": lambda: driven(tmp_path, "broken", "raise RuntimeError('the server did not get ready')"),
        "b": lambda: driven(tmp_path, "b"),
    }
    rows, notes = rounds(makers, replace(TINY, rounds=1), said.append)
    reason = "The driver of broken did not get ready. … RuntimeError: the server did not get ready"
    assert notes == [f"broken has no round 1: {reason}"]
    assert any("The end of its log:" in line for line in said)
    assert all(set(row.values) == {"b"} for row in rows)


def test_a_driver_that_says_nonsense_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriverFailed, match="The driver of a did not get ready"):
        driven(tmp_path, "a", "print('hello', flush=True)")


def test_the_tables_have_a_line_per_contender_and_gaps_for_what_is_missing(tmp_path: Path) -> None:
    rows, _ = rounds({"a": lambda: driven(tmp_path, "a")}, replace(TINY, rounds=1), lambda _: None)
    lines = markdown(rows, ["a", "b"], [PEERS["dbos"]], replace(TINY, rounds=1), ["a note"], 60).splitlines()
    assert "- a note" in lines
    assert "- Rounds: 1. Too few to judge the spread by." in lines
    assert "| b | – | – | – | – | – / – | – / – | – / – |" in lines
    (of_a,) = [line for line in lines if line.startswith("| a |")]
    assert "–" not in of_a
    assert lines[-3:] == registry.table([PEERS["dbos"]])
    assert "Temporal" not in "\n".join(lines)


def test_a_run_on_a_busy_machine_says_so() -> None:
    """Its speeds would be believed otherwise."""
    assert program.busy_note(0.4, 2) == []
    (note,) = program.busy_note(17.5, 2)
    assert "load average 17.5 on 2 cores before the first round" in note


@pytest.mark.slow
def test_ours_and_bare_celery_are_measured_by_the_same_code() -> None:
    """Own servers, real workers; no peer."""
    text = program.run(replace(TINY, rounds=1), (), lambda _: None)
    for name in ("orchestrator", "bare Celery"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert "–" not in line, line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "dboss"], "there is no peer 'dboss'; there are dbos, procrastinate, prefect, temporal"),
        (["--only", ","], "no peer is named"),
        (["--rounds", "0"], "0 is not a number of rounds from 1 to 50"),
        (["--rounds", "two"], "two is not a number of rounds"),
        (["--output", "/nowhere/at/all.md"], "/nowhere/at/all.md is not a file in a folder that exists"),
        (["--slow"], "unrecognized arguments: --slow"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is installed or started for it."""
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def installed(name: str, folder: Path, *programs: str) -> None:
    home = folder / name
    (home / "bin").mkdir(parents=True)
    for one in programs:
        (home / "bin" / one).touch()
    (home / "installed").write_text(installing._wanted(PEERS[name]))


def test_a_missing_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found before anything is started."""
    installed("temporal", tmp_path, "python")
    monkeypatch.setattr(program, "ENVIRONMENTS", tmp_path)
    with pytest.raises(SystemExit) as caught:
        program.main(["--only", "temporal"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"Temporal dev server has no program 'temporal' in {tmp_path / 'temporal' / 'bin'}. Fix: " in said
    assert said.count("\n") == 1


def test_an_environment_is_made_again_when_its_pins_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    peer = PEERS["dbos"]
    monkeypatch.setattr(installing, "_run", lambda peer, command: commands.append(command))
    installed("dbos", tmp_path, "python")
    install([peer], tmp_path, lambda _: None)
    assert commands == []
    (tmp_path / "dbos" / "installed").write_text("of other pins")
    monkeypatch.setattr(Path, "write_text", lambda *_: 0)
    with pytest.raises(MissingProgram):  # the recorder made nothing
        install([peer], tmp_path, lambda _: None)
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert commands[1][-2:] == ["--requirement", str(peer.pins)]


def test_a_failed_installation_is_one_sentence() -> None:
    with pytest.raises(BenchFailed, match=r"^DBOS could not be installed: no such thing Fix: see dbos\.txt, or "):
        installing._run(PEERS["dbos"], [sys.executable, "-c", "import sys; sys.exit('no such thing')"])


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_every_version_is_pinned(peer: registry.Peer) -> None:
    lines = peer.pins.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line)] == []
    assert peer.versions()
    assert (ROOT / f"{peer.module.replace('.', '/')}.py").is_file()


def test_the_page_has_the_table_of_configurations() -> None:
    """So that a new pin is a change of the page as well, and the figures beside it are looked at again."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert "\n".join(registry.table()) in page
