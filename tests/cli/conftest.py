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
    for name in ("DATABASE_URL", "BROKER_URL", "FLOWS"):
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


@pytest.fixture
def stack(cli: Cli, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Client]:
    """The environment names the test's servers, and two flows are registered; the client looks at what was done."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.require_database_url())
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.require_broker_url())
    with Client(settings) as client:
        register.register(client.ledger, hello.manifest)
        register.register(client.ledger, fan.manifest)
        yield client
