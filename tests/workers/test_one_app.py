"""The folder `workers/` of a checkout is a door to `orchestrator.workers`, not a second copy of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.settings import Settings
from tests.support.worker_process import env_of

ROOT = Path(__file__).parents[2]
BROKER = Settings(broker_url="redis://127.0.0.1:1/0")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env_of(BROKER), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_both_names_give_one_app() -> None:
    code = """
from celery.app.utils import find_app
import sys
one, other = find_app("workers"), find_app("orchestrator")
print(one is other, sorted(name for name in sys.modules if name.split(".")[0] in ("workers", "schedules")))
"""
    assert python(code) == "True ['workers']"


@pytest.mark.parametrize("name", ["workers.state", "schedules", "schedules.beat"])
def test_nothing_below_a_bare_name_can_be_imported(name: str) -> None:
    code = f"""
import importlib
try:
    importlib.import_module({name!r})
except ImportError as exc:
    print("refused")
"""
    assert python(code) == "refused"


def test_celery_finds_the_app_of_a_checkout_by_either_name() -> None:
    program = Path(sys.executable).with_name("celery")
    for name in ("workers", "orchestrator"):
        done = subprocess.run(
            [program, "-A", name, "report"], cwd=ROOT, env=env_of(BROKER), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "software -> celery:5." in done.stdout
