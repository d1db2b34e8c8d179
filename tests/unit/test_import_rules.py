"""Who may import whom. Change the map here before the import."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

BASE: Final = {"orchestrator.errors"}
PURE: Final = BASE | {"orchestrator.core"}
LEDGER: Final = PURE | {"orchestrator.ledger"}
ENGINE: Final = LEDGER | {"orchestrator.engine"}
AUTHORING: Final = PURE | {"orchestrator.authoring"}
REACH: Final = BASE | {"orchestrator.settings", "orchestrator.reach"}
BROKER: Final = REACH | {"orchestrator.broker"}
HANDLES: Final = {"orchestrator.run_handle", "orchestrator.schedule_handle"}
REDBEAT: Final = BROKER | {"orchestrator.redbeat"}
CLIENT: Final = ENGINE | AUTHORING | REACH | HANDLES | {"orchestrator.client", "orchestrator.aclient"}
EMBEDDED: Final = BASE | {"orchestrator.embedded"}
DEV: Final = EMBEDDED | BROKER | {"orchestrator.dev", "orchestrator.ledger"}

ALLOWED: Final[dict[str, set[str]]] = {
    "orchestrator.errors": set(),
    "orchestrator.core": PURE,
    "orchestrator.settings": PURE,
    "orchestrator.reach": REACH,
    "orchestrator.broker": BROKER,
    "orchestrator.redbeat": REDBEAT,
    "orchestrator.authoring": AUTHORING,
    "orchestrator.ledger": LEDGER,
    "orchestrator.engine": ENGINE,
    "orchestrator.run_handle": CLIENT,
    "orchestrator.schedule_handle": CLIENT,
    "orchestrator.client": CLIENT | {"orchestrator.embedded"},
    "orchestrator.aclient": CLIENT,
    "orchestrator.embedded": EMBEDDED,
    "orchestrator.dev": DEV,
    "orchestrator.doctor": CLIENT | REDBEAT | EMBEDDED | {"orchestrator.doctor"},
    "orchestrator.cli": CLIENT | DEV | {"orchestrator.cli", "orchestrator.doctor", "orchestrator"},
    "orchestrator.__main__": {"orchestrator.cli"},
    "orchestrator": CLIENT,
    "schedules": CLIENT | REDBEAT | {"orchestrator", "schedules"},
    "workers": CLIENT | REDBEAT | {"orchestrator", "schedules", "workers"},
}
"""The longest matching name counts, for both sides. A module missing here may import nothing of ours."""

ROOTS: Final = {"orchestrator.cli", "orchestrator.client", "orchestrator.aclient"}
"""Composition roots: inside a function they may reach into `workers`."""

NOT_IN_CORE: Final = {
    "asyncio",
    "celery",
    "logging",
    "os",
    "psycopg",
    "random",
    "redis",
    "socket",
    "sqlalchemy",
    "time",
}
"""I/O, clock, randomness, logging: what a pure module cannot be pure with."""


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("orchestrator", "workers", "schedules"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Imported module, line, whether inside a function; what only the type checker sees is left out."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, int, bool]]:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.Import():
                yield from ((alias.name, node.lineno, inside) for alias in node.names)
            case ast.ImportFrom():
                # `from orchestrator import errors` imports a module too.
                yield from ((f"{node.module}.{alias.name}", node.lineno, inside) for alias in node.names)
            case _:
                inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text(), str(path)), False)


def layer(name: str) -> str | None:
    """The longest entry of the map that `name` is or lies below."""
    parts = name.split(".")
    return next((found for end in range(len(parts), 0, -1) if (found := ".".join(parts[:end])) in ALLOWED), None)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in {"orchestrator", "workers", "schedules"}


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    own = layer(module)
    wrong = []
    for name, line, inside in imports(path):
        target = layer(name)
        wired = inside and own in ROOTS and target in {"workers", "schedules"}
        if _is_ours(name) and own is not None and target not in ALLOWED[own] | {own} and not wired:
            wrong.append(f"{path}:{line}: {own} may not import {name}")
    assert wrong == []


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_module_has_a_place_in_the_map(module: str, path: Path) -> None:
    own = layer(module)
    assert own not in {None, "orchestrator"} or module == "orchestrator", f"{path}: add {module} to the map"


def test_core_touches_nothing_outside() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for module, path in modules()
        if module.startswith("orchestrator.core")
        for name, line, _ in imports(path)
        if name.split(".")[0] in NOT_IN_CORE
    ]
    assert wrong == []


def test_the_engine_knows_nothing_of_celery() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for module, path in modules()
        if layer(module)
        in {"orchestrator.core", "orchestrator.ledger", "orchestrator.engine", "orchestrator.authoring"}
        for name, line, _ in imports(path)
        if name.split(".")[0] in {"celery", "kombu", "redis", "redbeat"}
    ]
    assert wrong == []


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from orchestrator.engine import claim_step\n")
    assert list(imports(wrong)) == [("orchestrator.engine.claim_step", 2, True)]
    assert layer("orchestrator.engine.claim_step") == "orchestrator.engine"
