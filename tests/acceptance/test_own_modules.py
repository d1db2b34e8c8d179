"""The wheel in a project that has modules called like ours, like Python's and like those of the libraries we use."""

import os
import signal
import subprocess
import sysconfig
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from orchestrator.servers.embedded.server import free_port
from tests.support.dev import Dev, stopped_at_the_end
from tests.support.eventually import eventually

OURS: Final = ("workers", "schedules", "worker", "flows", "migrations", "tests")
PYTHONS: Final = ("queue", "email", "types", "select", "secrets", "token", "logging", "json")
LIBRARIES: Final = (
    "celery",
    "redis",
    "kombu",
    "flower",
    "sqlalchemy",
    "alembic",
    "rich",
    "tornado",
    "vine",
)
SHOP: Final = """
from orchestrator import flow, step
from prices import PRICE
from schedules import NIGHTLY
import queue, redis

@step
def hello(name: str) -> str:
    import email.message, sqlite3
    return f"hello {name}, {PRICE}, {NIGHTLY}, {queue.Queue.__name__}, {redis.Redis.__name__}"

@flow
def greeting(name: str) -> str:
    return hello(name)
"""
SAID: Final = "hello Ada, 7, 0 7 * * *, Queue, Redis"


class Project:
    """A folder with a flow and many modules of its own, and programs of an environment that has the wheel."""

    def __init__(self, bin: Path, folder: Path) -> None:
        self.bin = bin
        self.folder = folder
        folder.mkdir()
        for name in (*PYTHONS, *LIBRARIES, *OURS):
            (folder / f"{name}.py").write_text("raise RuntimeError('a module of the project was taken for another')\n")
        (folder / "workers.py").unlink()
        (folder / "workers").mkdir()
        (folder / "workers" / "__init__.py").write_text("MINE = True\n")
        (folder / "schedules.py").write_text("NIGHTLY = '0 7 * * *'\n")
        (folder / "prices.py").write_text("PRICE = 7\n")
        (folder / "shop.py").write_text(SHOP)

    def env(self, **more: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ORCHESTRATOR_", "PYTHON"))}
        return {**inherited, **more}

    def run(self, program: str, *arguments: str, **env: str) -> str:
        command = [str(self.bin / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env(**env), capture_output=True, text=True, timeout=150
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def greeting(self, **env: str) -> str:
        return self.run(
            "orchestrator", "run", "start", "greeting", "-i", "name=Ada", "--wait", "--timeout", "80", **env
        )

    @contextmanager
    def running(self, program: str, *arguments: str, **env: str) -> Iterator[Path]:
        """One that runs until it is told to stop; gives the file with its output."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("ab") as out:
            command = [str(self.bin / program), *arguments]
            process = subprocess.Popen(command, cwd=self.folder, env=self.env(**env), stdout=out, stderr=out)
        try:
            yield log
            assert process.poll() is None, log.read_text()
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{log.read_text()}") from exc
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert "taken for another" not in log.read_text()


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone is installed; what it needs comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("beside")
    venv.create(folder, with_pip=False)
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if "orchestrator" not in library.name and not (target / library.name).exists():
            (target / library.name).symlink_to(library)
    for name, module in (("orchestrator", "orchestrator.cli"), ("celery", "celery.__main__")):
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        script.chmod(0o755)
    return folder / "bin"


@pytest.fixture
def project(programs: Path, tmp_path: Path) -> Project:
    return Project(programs, tmp_path / "project")


@pytest.fixture
def urls(db_url: str, broker_url: str) -> dict[str, str]:
    return {"ORCHESTRATOR_DATABASE_URL": db_url, "ORCHESTRATOR_BROKER_URL": broker_url}


def test_the_wheel_is_what_is_tried(project: Project) -> None:
    found = project.run(
        "python", "-P", "-c", "import orchestrator, celery; print(orchestrator.__file__, celery.__file__)"
    )
    ours, libraries = found.split()
    assert Path(ours).is_relative_to(project.bin.parent)
    assert not Path(libraries).is_relative_to(project.folder)


def test_flows_are_checked_beside_them(project: Project) -> None:
    assert "greeting" in project.run("orchestrator", "flow", "check", "--flows", "shop.py")
    assert "greeting" in project.run("orchestrator", "flow", "check", "--flows", "shop")


def test_dev_runs_beside_them(project: Project, urls: dict[str, str]) -> None:
    program = [str(project.bin / "orchestrator"), "dev", "-o", "json", "--flows", "shop.py"]
    dev = Dev(program, project.folder / ".orchestrator", project.folder, python=str(project.bin / "python"), **urls)
    with stopped_at_the_end(dev):
        assert dev.info["flows"] == ["greeting"]
        assert SAID in project.greeting()
        assert urllib.request.urlopen(dev.info["flower_url"], timeout=60).status == 200
        assert dev.info["pids"]["beat"]
        dev.stop()
    assert "taken for another" not in dev.messages
    assert "starting it again" not in dev.messages


@pytest.mark.parametrize(
    "program", [("celery", "-A", "orchestrator", "worker", "--loglevel=INFO"), ("orchestrator", "worker")]
)
def test_a_worker_runs_beside_them(project: Project, urls: dict[str, str], program: tuple[str, ...]) -> None:
    env = {**urls, "ORCHESTRATOR_FLOWS": "shop"}
    with project.running(*program, **env) as log:
        eventually(lambda: "ready." in log.read_text(), message="the worker does not say that it is ready")
        assert SAID in project.greeting(**urls)


def test_celerys_beat_and_flower_run_beside_them(project: Project, urls: dict[str, str]) -> None:
    port = str(free_port())
    with (
        project.running("celery", "-A", "orchestrator", "beat", "--loglevel=INFO", **urls) as beat,
        project.running("celery", "-A", "orchestrator", "flower", "--address=127.0.0.1", f"--port={port}", **urls),
    ):
        eventually(lambda: _answers(port), message="Flower does not answer")
        eventually(lambda: beat.read_text(), message="beat says nothing")


def _answers(port: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5).status == 200)
    except OSError:
        return False


def test_a_program_starts_runs_beside_modules_called_like_ours(project: Project, urls: dict[str, str]) -> None:
    for name in (*PYTHONS, *LIBRARIES):
        (project.folder / f"{name}.py").unlink()
    program = "from orchestrator import Client\nfrom shop import greeting\n"
    program += "with Client.from_env() as client:\n    print(client.start(greeting, name='Ada').status())\n"
    (project.folder / "ask.py").write_text(program)
    assert "pending" in project.run("python", "ask.py", **urls)
