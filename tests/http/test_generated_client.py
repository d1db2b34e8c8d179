"""A client that is generated from the document is typed, and starts runs: nobody has to write one."""

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.core.access import Role
from orchestrator.settings import Settings
from tests.http.access import key
from tests.support.listening import listening

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
PINS = SUPPORT / "generator.txt"

pytestmark = pytest.mark.slow  # it is installed, and what it makes is checked


@pytest.fixture(scope="module")
def generator(pytestconfig: pytest.Config) -> Path:
    """The programs of an environment with the generator, kept for later sessions."""
    assert pytestconfig.cache is not None
    pins = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = pytestconfig.cache.mkdir(f"generator-{pins}")
    installed = home / "installed"
    if not installed.exists():
        venv.create(home, with_pip=True, clear=True)
        run(home / "bin", "python", "-m", "pip", "install", "--quiet", "--requirement", str(PINS))
        installed.touch()
    return home / "bin"


def run(programs: Path, name: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run([str(programs / name), *arguments], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_is_typed_and_starts_runs(
    generator: Path, settings: Settings, stack: Client, tmp_path: Path
) -> None:
    """Nothing of the document is left out: a warning of the generator fails it."""
    document = ["--path", str(ROOT / "docs" / "openapi.json"), "--config", str(SUPPORT / "generator.yml")]
    made = ["--meta", "none", "--output-path", str(tmp_path / "flows_client"), "--fail-on-warning"]
    run(generator, "openapi-python-client", "generate", *document, *made)
    (tmp_path / "use.py").write_text((SUPPORT / "generated_client_use.py").read_text())
    run(generator, "mypy", "--strict", "-p", "flows_client", cwd=tmp_path)
    with listening(settings) as url:
        seen = json.loads(run(generator, "python", "use.py", url, key(stack, Role.OPERATOR), cwd=tmp_path))
    (row,) = stack.runs(tag="generated")
    assert seen == {
        "run": str(row.id),
        "created": [True, False],
        "same": True,
        "flow": "hello",
        "steps": ["greet", "measure"],
        "refused": "input_invalid",
        "many": 3,
        "page": [2, True],
        "stopped": "cancelled",
        "exported": str(row.id),
    }
    assert (row.status, row.cancel_reason) == ("cancelled", "enough")
