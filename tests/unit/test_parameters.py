"""Few parameters: what travels together is an object."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orchestrator

MOST: Final = 6
ALIKE: Final = 3
PUBLIC: Final = {
    "authoring/step.py:options",
    "authoring/step.py:from_task",
    "authoring/flow.py:options",
    "authoring/calls.py:options",
    "authoring/schedule.py:schedule",
    "authoring/context.py:__init__",
    "client/client.py:start",
    "client/remote/client.py:start",
    "client/remote/operations.py:operate",
    "client/client.py:start_many",
    "client/aclient.py:start_many",
    "client/operations.py:operate",
    "client/aoperations.py:operate",
    "authoring/each.py:each",
    "authoring/signals.py:wait_for_signal",
    "authoring/signals.py:approval",
}
"""What people write with keywords, each of them of its own meaning."""
OUTSIDE: Final = ("cli/", "http/routers/", "http/parameters.py")
"""So are the options of commands, and the parameters of requests."""
LIBRARIES: Final = {
    "ledger/session.py:do_connect",
    "keeper/probe.py:handle",
}
"""What SQLAlchemy and kombu call: their signatures, not ours."""
SAMPLER: Final = {"observe/traces/otel.py:should_sample"}
"""What OpenTelemetry calls."""
ROOT: Final = Path(orchestrator.__file__).parent
LINKS: Final = (ROOT / "workers", ROOT / "schedules")
"""In a checkout; a search does not go into them by itself."""


def functions() -> Iterator[tuple[str, ast.arguments]]:
    """Every function by file and name."""
    for path in sorted(path for room in (ROOT, *LINKS) for path in room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _overloads(node):
                yield f"{path.relative_to(ROOT)}:{node.name}", node.args


def _count(given: ast.arguments) -> int:
    """`self` aside."""
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    stars = (given.vararg is not None) + (given.kwarg is not None)
    return len(names) + stars - (names[:1] in (["self"], ["cls"]))


def _most_alike(given: ast.arguments) -> int:
    """Of those that may be given by their place alone, how many have the same type."""
    types = Counter(ast.unparse(one.annotation) for one in (*given.posonlyargs, *given.args) if one.annotation)
    return max(types.values(), default=0)


def _overloads(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(one) == "overload" for one in node.decorator_list)


def test_a_function_has_few_parameters() -> None:
    """Whoever reads a call with seven values in a row cannot tell them apart."""
    many = {name for name, given in functions() if _count(given) > MOST and not name.startswith(OUTSIDE)}
    assert many == PUBLIC | SAMPLER


def test_few_of_one_type_are_given_by_their_place() -> None:
    """Two of them change places without a word from the type checker."""
    many = {name for name, given in functions() if _most_alike(given) > ALIKE and not name.startswith(OUTSIDE)}
    assert {name.removeprefix("workers/") for name in many} == LIBRARIES


def test_the_links_are_followed() -> None:
    found = {name.split("/")[0] for name, _ in functions()}
    assert {"workers", "schedules", "engine"} <= found
