"""The errors: one tree, drawn whole; facts that a type checker sees; each survives pickling."""

import ast
import copy
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator import errors
from orchestrator.errors import Conflict, OrchestratorError, RunFailed, RunNotFound, Unavailable

ROOT = Path(orchestrator.__file__).parent
KINDS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, OrchestratorError)
}


def drawn(kind: type[OrchestratorError] = OrchestratorError, before: str = "") -> Iterator[str]:
    """The lines below a class, as the docstring has them."""
    below = [one for one in KINDS.values() if one.__bases__[0] is kind]
    for one in below:
        last = one is below[-1]
        yield f"{before}{'└── ' if last else '├── '}{one.__name__}"
        yield from drawn(one, before + ("    " if last else "│   "))


def declared(kind: type[OrchestratorError]) -> set[str]:
    """The facts of a class and of those above it."""
    return {name for one in kind.__mro__ if one.__module__ == errors.__name__ for name in inspect.get_annotations(one)}


def given() -> Iterator[tuple[str, str, str]]:
    """Every fact that code gives to an error: the place, the class, the fact."""
    for path in sorted(path for room in (ROOT, ROOT / "workers", ROOT / "schedules") for path in room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                for one in node.keywords:
                    if one.arg is not None:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.id, one.arg


def test_the_drawn_tree_is_whole() -> None:
    assert "\n".join(["OrchestratorError", *drawn()]) in (errors.__doc__ or "")


def test_every_fact_is_a_declared_attribute() -> None:
    """So that `error.run_id` is seen by a type checker, and a fact that is not known does not raise AttributeError."""
    assert [one for one in given() if one[2] not in declared(KINDS[one[1]])] == []


def test_facts_are_attributes_and_have_a_default() -> None:
    error = RunNotFound("No run x.", run_id="x")
    assert (error.run_id, error.facts) == ("x", {"run_id": "x"})
    assert (Conflict("No.").flow, Unavailable("Away.").refused, RunFailed("Failed.").step) == (None, False, None)
    with pytest.raises(AttributeError):
        error.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("kind", KINDS.values())
def test_an_error_survives_pickling_and_copying(kind: type[OrchestratorError]) -> None:
    facts: dict[str, Any] = dict.fromkeys(declared(kind) - {"code", "exit_code", "message", "facts"}, "x")
    error = kind("It failed.", **facts)
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(made), str(made), made.facts) == (kind, str(error), facts)
        assert all(getattr(made, name) == "x" for name in facts)
