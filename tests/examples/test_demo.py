"""`make demo` as a user runs it: a process that starts a stack, and leaves nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]


IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""As a shell without job control starts a command with `&`: SIGINT is ignored until the command says otherwise."""


class Demo:
    def __init__(self, data_dir: Path, **env: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        self.data_dir = data_dir
        self.output = data_dir.with_suffix(".out")
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [*IN_THE_BACKGROUND, sys.executable, "-m", "examples.package_audit.demo", "--data-dir", str(data_dir)],
                cwd=ROOT,
                env={**inherited, **env},
                stdout=out,
                stderr=out,
            )

    def text(self) -> str:
        return self.output.read_text()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """And nobody who uses it is left afterwards."""
    folder = tmp_path / "data"
    yield folder
    left = [
        one.info
        for one in psutil.process_iter(["pid", "cmdline"])
        if str(folder) in " ".join(one.info["cmdline"] or [])
    ]
    assert left == []


def test_the_demo_prints_its_report_and_leaves_nothing_running(data_dir: Path) -> None:
    """Real servers, real files; the headline counts this environment."""
    demo = Demo(data_dir)
    assert demo.process.wait(120) == 0, demo.text()
    assert " distributions, " in demo.text()
    assert "Everything is stopped." in demo.text()
    assert (data_dir / "report.txt").read_text().splitlines()[0] in demo.text()


@pytest.mark.slow
def test_ctrl_c_stops_the_stack(data_dir: Path) -> None:
    """The user changes their mind while servers and worker are up."""
    demo = Demo(data_dir)
    eventually(lambda: "Ready after" in demo.text(), timeout=60)
    family = demo.family()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 130, demo.text()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_a_stack_that_does_not_start_is_explained(data_dir: Path) -> None:
    """The reason comes from `dev`, not from a traceback of the demo."""
    demo = Demo(data_dir, ORCHESTRATOR_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert demo.process.wait(120) == 1
    assert "The demo failed: " in demo.text()
    assert "127.0.0.1:1" in demo.text()
    assert "Traceback" not in demo.text()
