"""`orchestrator dev` loads the flows before it starts anything."""

import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.dev import flows, output
from orchestrator.errors import DiscoveryError
from orchestrator.servers.embedded.discovery import DevState

SHOP = (
    "from orchestrator import flow\nprint('loading')\n@flow\ndef sell() -> None: ...\n@flow\ndef buy() -> None: ...\n"
)


def names(folder: Path, text: str) -> tuple[str, ...] | None:
    (folder / "shop.py").write_text(text)
    return flows.names(("shop.py",), os.environ, folder)


def test_the_names_are_those_of_the_code(tmp_path: Path) -> None:
    assert names(tmp_path, SHOP) == ("buy", "sell")
    assert flows.names((), os.environ, tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nif:\n", "shop.py:2. Fix: correct that line."),
        ("import sys\nsys.exit()\n", "ended itself while it was loaded: sys.exit(None) at"),
        ("import os\nos._exit(7)\n", "Python ended with 7 while it loaded shop.py."),
        (SHOP + "@flow\ndef bad() -> None:\n    while True:\n        break\n", "holds a `while`"),
    ],
)
def test_a_mistake_in_the_code_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        names(tmp_path, text)
    assert says in str(caught.value)


def test_what_may_come_of_servers_that_are_not_there_yet_is_left_to_the_worker(tmp_path: Path) -> None:
    assert names(tmp_path, SHOP + "import os\nurl = os.environ['ORCHESTRATOR_DATABASE_URL_OF_MINE']\n") is None


@pytest.mark.parametrize(
    ("sources", "found", "says"),
    [
        (("shop.py",), ("buy", "sell"), "buy, sell (of shop.py; restart to load a change)"),
        (("shop.py",), None, "shop.py"),
        ((), ("buy",), "buy (of installed packages; restart"),
        ((), (), "none yet: give --flows"),
    ],
)
def test_the_ready_block_names_them(
    sources: tuple[str, ...], found: tuple[str, ...] | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"flows     {says}" in block(monkeypatch, sources, found)


def block(
    monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...], names: tuple[str, ...] | None, *, found: bool = True
) -> str:
    state = DevState(1, "", "", "/d", "postgresql://u@h/x?a=1&b=2", "redis://h/0", flows=sources)
    out = StringIO()
    monkeypatch.setattr(output, "Console", lambda file: Console(file=out, width=40))
    output.ready(state, names, as_json=False, found=found)
    return out.getvalue()


def test_the_ready_block_says_how_to_start_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line each, however narrow the terminal is; it names the servers where nothing else does."""
    start = "orchestrator run start FLOW --wait\n"
    assert f"Start a run from another terminal, in this folder: {start}" in block(monkeypatch, (), ())
    export = "export ORCHESTRATOR_DATABASE_URL='postgresql://u@h/x?a=1&b=2' ORCHESTRATOR_BROKER_URL=redis://h/0\n"
    said = block(monkeypatch, (), (), found=False)
    assert f"Start a run from another terminal:\n  {export}  {start}" in said
