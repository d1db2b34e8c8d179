"""Few parameters: what travels together is an object."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orchestrator

MOST: Final = 6
PUBLIC: Final = {
    "authoring/step.py:options",
    "authoring/schedule.py:schedule",
    "authoring/context.py:__init__",
}
"""What people write with keywords, each of them of its own meaning. The commands of `cli/` are such too."""
ROOT: Final = Path(orchestrator.__file__).parent
LINKS: Final = (ROOT / "workers", ROOT / "schedules")
"""In a checkout; a search does not go into them by itself."""


def functions() -> Iterator[tuple[str, int]]:
    """Every function by file and name, with its parameters; `self` aside."""
    for path in sorted(path for room in (ROOT, *LINKS) for path in room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _overloads(node):
                given = node.args
                names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                stars = (given.vararg is not None) + (given.kwarg is not None)
                own = names[:1] in (["self"], ["cls"])
                yield f"{path.relative_to(ROOT)}:{node.name}", len(names) + stars - own


def _overloads(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(one) == "overload" for one in node.decorator_list)


def test_a_function_has_few_parameters() -> None:
    """Whoever reads a call with seven values in a row cannot tell them apart."""
    many = {name for name, count in functions() if count > MOST and not name.startswith("cli/")}
    assert many == PUBLIC


def test_the_links_are_followed() -> None:
    found = {name.split("/")[0] for name, _ in functions()}
    assert {"workers", "schedules", "engine"} <= found
