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
    state = DevState(1, "", "", "/d", "postgresql://u@h/x", "redis://h/0", flows=sources)
    out = StringIO()
    monkeypatch.setattr(output, "Console", lambda file: Console(file=out, width=200))
    output.ready(state, found, as_json=False)
    assert f"flows     {says}" in out.getvalue()
