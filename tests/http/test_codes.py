"""The type of every problem leads to what its code means."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import orchestrator.http
from orchestrator.http import problems
from orchestrator.http.codes import meaning

ROOM = Path(orchestrator.http.__file__).parent


def said() -> Iterator[tuple[str, int]]:
    """Every code that the room says by itself, with its status."""
    for file in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused":
                status = node.args[0]
                codes = [*node.args[2:3], *(one.value for one in node.keywords if one.arg == "code")]
                for code in codes:
                    if not (isinstance(code, ast.Attribute) and code.attr == "code"):  # that of an error of ours
                        assert isinstance(code, ast.Constant), f"{file}:{node.lineno}"
                        assert isinstance(status, ast.Constant), f"{file}:{node.lineno}"
                        yield str(code.value), int(str(status.value))
    yield from ((code, status) for status, (code, _) in problems._PLAIN.items())


@pytest.mark.parametrize(("code", "status"), sorted(set(said())))
def test_every_code_has_a_meaning(code: str, status: int) -> None:
    found = meaning(code)
    assert found is not None
    assert found.meaning
    if code not in {"value"}:  # in a body it is 422
        assert found.status == status


def test_the_type_of_a_problem_can_be_followed(api: TestClient) -> None:
    for path in ("/api/runs?nothing=1", "/api/runs?cursor=x", "/api/runs/ffffffffffff", "/api/nowhere"):
        problem = api.get(path).json()
        told = api.get(problem["type"])
        assert told.status_code == 200, problem["type"]
        assert told.json()["code"] == problem["code"]
    assert api.get("/api/problems/nothing").status_code == 404
