"""Composition type-checks: mypy accepts right flows without casts and reports every wrong line of wrong ones."""

import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "typing_examples"
ROOT = Path(__file__).parents[2]
_REPORT = re.compile(r"^.*?([\w]+\.py):(\d+): error: .*\[([\w-]+)\]$")


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> dict[str, dict[int, set[str]]]:
    """Error codes by file and line; one run for both files, it takes seconds."""
    api = pytest.importorskip("mypy.api")
    config = tmp_path_factory.mktemp("mypy") / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nplugins =\n")
    cache = tmp_path_factory.mktemp("cache")
    files = [str(EXAMPLES / name) for name in ("right.py", "wrong.py")]
    options = ["--config-file", str(config), "--cache-dir", str(cache), "--follow-imports=silent"]
    out, errors, _ = api.run(
        [*options, "--no-error-summary", "--hide-error-context", "--python-executable", sys.executable, *files]
    )
    assert errors == ""
    found: dict[str, dict[int, set[str]]] = {"right.py": {}, "wrong.py": {}}
    for line in out.splitlines():
        if match := _REPORT.match(line):
            found[match[1]].setdefault(int(match[2]), set()).add(match[3])
        else:
            assert ": note: " in line, line
    return found


def _marked(name: str) -> dict[int, set[str]]:
    lines = enumerate((EXAMPLES / name).read_text().splitlines(), start=1)
    return {n: set(text.partition("# wrong: ")[2].split(", ")) for n, text in lines if "  # wrong: " in text}


@pytest.mark.timeout(300)
def test_right_flows_need_no_casts(reported):
    assert reported["right.py"] == {}


@pytest.mark.timeout(300)
def test_every_wrong_line_is_reported_and_no_other(reported):
    assert reported["wrong.py"] == _marked("wrong.py")


def test_the_right_examples_also_trace():
    """What the type checker accepts, the tracer accepts."""
    from tests.unit.typing_examples import right

    assert set(right.checkout.manifest.steps) >= {"load", "price", "keep", "save_all"}
