"""The command line, run inside the test process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from orchestrator.cli import main
from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.settings import Settings
from tests.cli.ways import DATABASE_ONLY, Author
from tests.support.listening import Listening
from tests.support.row_counts import counted
from tests.support.small_flows import fan, hello

__all__ = ["counted"]


@dataclass(frozen=True)
class Said:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.out)


class Cli(Protocol):
    def __call__(self, *arguments: str, code: int | None = 0) -> Said: ...


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs a command in an empty folder, and checks its exit code (None: any)."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "BROKER_URL", "FLOWS", "API_URL", "API_KEY"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)

    def run(*arguments: str, code: int | None = 0) -> Said:
        monkeypatch.setattr("sys.argv", ["orchestrator", *arguments])
        capsys.readouterr()
        try:
            main()
            found = 0
        except SystemExit as exc:
            found = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        said = Said(found, *capsys.readouterr())
        assert "Traceback" not in said.err
        assert code is None or said.code == code, said
        return said

    return run


@pytest.fixture(params=["database", "api"])
def way(request: pytest.FixtureRequest) -> str:
    """How commands reach the ledger."""
    return str(request.param)


@pytest.fixture
def author(way: str) -> Author:
    """Who does what a command does."""
    return Author(names=way == "database")


@pytest.fixture(scope="session")
def listening() -> Iterator[Listening]:
    """One API for all of these tests."""
    made = Listening()
    yield made
    made.close()


@pytest.fixture
def stack(
    way: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, settings: Settings, listening: Listening
) -> Iterator[Client]:
    """The environment names the test's servers, or an API that has them, and two flows are registered; the client looks
    at what was done."""
    with Client(settings) as client:
        register.register(client.ledger, hello.manifest)
        register.register(client.ledger, fan.manifest)
        if way == "database":
            monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.require_database_url())
            monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.require_broker_url())
            yield client
            return
        with listening.serving(client) as url:
            monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
            yield client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that make sense with a database only run with that. The others run over HTTP with the slow tests; that each
    command prints the same there is tried every time."""
    here = Path(__file__).parent
    items[:] = [item for item in items if item.path.parent != here or _makes_sense(item)]
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if item.path.parent == here and parameters.get("way") == "api":
            item.add_marker(pytest.mark.slow)


def _makes_sense(item: pytest.Item) -> bool:
    way = getattr(item, "callspec", None) and item.callspec.params.get("way")  # type: ignore[attr-defined]
    name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
    return way != "api" or not {item.path.name, name} & DATABASE_ONLY.keys()
