"""A test that is skipped in CI fails CI unless it is on a list, whichever way it is skipped and with xdist too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import LIST, read

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
from pathlib import Path
from tests.support import skips
def pytest_configure(config):
    skips.register(config, Path(__file__).with_name("skips.txt"))
"""
WAYS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no spin')\ndef test_it(): ...\n",
    "call": "import pytest\ndef test_it(): pytest.skip('no spin')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('no spin')\ndef test_it(it): ...\n",
    "module": "import pytest\npytest.skip('no spin', allow_module_level=True)\n",
}
RUNS = "def test_other(): ...\n"
FAILS_AS_IT_SHOULD = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"


def _session(folder: Path, allowed: str, *options: str, ci: str = "true", **modules: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "skips.txt").write_text(allowed)
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"CI": ci, "PYTHONPATH": str(ROOT)}
    command += ["-c", os.devnull, f"--rootdir={folder}", *options, str(folder)]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_skip_that_nobody_allowed_fails_ci(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, said = _session(tmp_path, "", *options, **WAYS)
    assert code == 1, said
    named = [
        line.partition("was skipped in CI: no spin. Fix: give CI what it needs")[::2] for line in said.splitlines()
    ]
    assert [test.partition(".py")[0] for test, fix in named if fix] == sorted(f"test_{way}" for way in WAYS)


def test_a_skip_passes_with_a_reason_and_an_entry_that_runs_is_named(tmp_path: Path) -> None:
    allowed = "test_call.py::test_it there is no Spin for this machine\ntest_runs.py it was skipped once\n"
    code, said = _session(tmp_path, allowed, "-n", "1", call=WAYS["call"], xfail=FAILS_AS_IT_SHOULD, runs=RUNS)
    assert code == 0, said
    assert [line for line in said.splitlines() if "Fix:" in line] == [
        "test_runs.py is no longer skipped. Fix: take it from tests/skips.txt."
    ]


def test_a_skip_outside_ci_passes(tmp_path: Path) -> None:
    code, said = _session(tmp_path, "", ci="", call=WAYS["call"])
    assert (code, "Fix:" in said) == (0, False), said


def test_every_entry_of_the_list_has_a_reason(tmp_path: Path) -> None:
    assert all(read(LIST).values())
    (tmp_path / "skips.txt").write_text("tests/unit/test_skips.py\n")
    with pytest.raises(ValueError, match="has no reason for"):
        read(tmp_path / "skips.txt")
