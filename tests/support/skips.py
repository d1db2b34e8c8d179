"""In CI a test that is skipped fails the session, unless a list says why it may be: what is skipped proves nothing.

The list has a line per test or folder of tests: its id, or the beginning of it, a space, and the reason.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

LIST: Final = Path(__file__).resolve().parents[1] / "skips.txt"
_HANDED_OVER: Final = "skips"


def register(config: pytest.Config, path: Path = LIST) -> None:
    """Watch this session, and what its xdist workers tell."""
    config.pluginmanager.register(Skips(config, read(path), in_ci=os.environ.get("CI", "").lower() in {"1", "true"}))


def read(path: Path) -> dict[str, str]:
    """The reason by the beginning of an id.

    Raises:
        ValueError: a line has no reason.
    """
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = dict(line.partition(" ")[::2] for line in lines if line and not line.startswith("#"))
    if bare := [name for name, reason in found.items() if not reason.strip()]:
        raise ValueError(f"{path.name} has no reason for {bare[0]}. Fix: write it behind the id.")
    return found


class Skips:
    """What was skipped, and what was not."""

    def __init__(self, config: pytest.Config, allowed: Mapping[str, str], *, in_ci: bool) -> None:
        self._output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        self._allowed = allowed
        self._in_ci = in_ci
        self._skipped: dict[str, str] = {}
        self._ran: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped[report.nodeid] = _reason(report)
        elif report.when == "call":
            self._ran.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole module may be skipped while it is read."""
        if report.skipped:
            self._skipped[report.nodeid] = _reason(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """An xdist worker has ended: its reports of collection come to nobody else."""
        self._skipped |= getattr(node, "workeroutput", {}).get(_HANDED_OVER, {})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._output is not None:
            self._output[_HANDED_OVER] = self._skipped
        elif self._in_ci and self._unknown() and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._in_ci:
            return
        for line in self._said():
            terminalreporter.write_line(line)

    def _said(self) -> Iterator[str]:
        for name, reason in sorted(self._unknown().items()):
            yield f"{name} was skipped in CI: {reason}. Fix: give CI what it needs, or add it to tests/skips.txt."
        for name in sorted(self._allowed):
            if any(map(_under(name), self._ran)) and not any(map(_under(name), self._skipped)):
                yield f"{name} is no longer skipped. Fix: take it from tests/skips.txt."

    def _unknown(self) -> dict[str, str]:
        """Skipped, and on no list."""
        return {
            test: reason
            for test, reason in self._skipped.items()
            if not any(_under(name)(test) for name in self._allowed)
        }


def _under(name: str) -> Any:
    return lambda test: test.startswith(name)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ").rstrip(".")
