"""Who may import whom. Change the map here before the import."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

BASE: Final = {"orchestrator.errors", "orchestrator.forks", "orchestrator.full_disk"}
PURE: Final = BASE | {"orchestrator.core"}
PAYLOADS: Final = PURE | {"orchestrator.payloads"}
LEDGER: Final = PAYLOADS | {"orchestrator.ledger"}
WEBHOOKS: Final = PURE | {"orchestrator.webhooks"}
AUTHORING: Final = WEBHOOKS | {"orchestrator.authoring"}
OBSERVE: Final = PURE | {"orchestrator.observe"}
ENGINE: Final = LEDGER | OBSERVE | WEBHOOKS | {"orchestrator.engine"}
EMBEDDED: Final = BASE | {"orchestrator.servers.embedded"}
SERVERS: Final = LEDGER | EMBEDDED | {"orchestrator.settings", "orchestrator.servers"}
DELIVERY: Final = ENGINE | SERVERS | OBSERVE | {"orchestrator.delivery"}
CLIENT: Final = DELIVERY | AUTHORING | {"orchestrator.client"}
SCHEDULES: Final = CLIENT | {"orchestrator.schedules"}
WORKERS: Final = SCHEDULES | {
    "orchestrator.workers.state",
    "orchestrator.workers.metering",
    "orchestrator.workers.shared",
    "orchestrator.workers.supervised",
}
RUN: Final = WORKERS | {"orchestrator.workers.run"}
KEEPER: Final = RUN | {"orchestrator.workers.keeper"}
APP: Final = KEEPER | {"orchestrator.workers.app"}
EXPORTER: Final = SERVERS | OBSERVE | {"orchestrator.exporter"}
HTTP: Final = CLIENT | EXPORTER | {"orchestrator.http"}
TOOLS: Final = HTTP | {"orchestrator.dev", "orchestrator.doctor"}

ALLOWED: Final[dict[str, set[str]]] = {
    "orchestrator.errors": set(),
    "orchestrator.forks": set(),
    "orchestrator.full_disk": set(),
    "orchestrator.core": PURE,
    "orchestrator.payloads": PAYLOADS,
    "orchestrator.settings": PAYLOADS,
    "orchestrator.webhooks": WEBHOOKS,
    "orchestrator.authoring": AUTHORING,
    "orchestrator.observe": OBSERVE,
    "orchestrator.ledger": LEDGER,
    "orchestrator.engine": ENGINE,
    "orchestrator.servers.embedded": EMBEDDED,
    "orchestrator.servers": SERVERS,
    "orchestrator.delivery": DELIVERY,
    "orchestrator.client": CLIENT,
    "orchestrator.dev": SERVERS | ENGINE | {"orchestrator.dev"},
    "orchestrator.doctor": CLIENT | {"orchestrator.doctor"},
    "orchestrator.exporter": EXPORTER,
    "orchestrator.http": HTTP,
    "orchestrator.schedules": SCHEDULES,
    # What one process of a worker holds: its state knows the two things that it makes.
    "orchestrator.workers.shared": PURE,
    "orchestrator.workers.supervised": OBSERVE,
    "orchestrator.workers.metering": OBSERVE,
    "orchestrator.workers.run.held_lease": AUTHORING,
    "orchestrator.workers.run.outage": LEDGER | OBSERVE,
    "orchestrator.workers.run.heartbeat": DELIVERY
    | AUTHORING
    | {"orchestrator.workers.run.held_lease", "orchestrator.workers.run.outage"},
    "orchestrator.workers.run.loop": OBSERVE | {"orchestrator.workers.run.held_lease"},
    "orchestrator.workers.run.versions": LEDGER | AUTHORING,
    "orchestrator.workers.run.lines": PURE,
    "orchestrator.workers.run.capture": OBSERVE | {"orchestrator.workers.run.lines"},
    "orchestrator.workers.run.log_writer": SERVERS
    | OBSERVE
    | {"orchestrator.workers.run.lines", "orchestrator.workers.run.outage"},
    "orchestrator.workers.run.hand_over": DELIVERY
    | AUTHORING
    | {"orchestrator.workers.run.outage", "orchestrator.workers.run.versions"},
    "orchestrator.workers.state": WORKERS
    | {
        f"orchestrator.workers.run.{name}"
        for name in ("hand_over", "heartbeat", "held_lease", "log_writer", "loop", "versions")
    },
    "orchestrator.workers.run": RUN,
    "orchestrator.workers.keeper": KEEPER,
    "orchestrator.workers.app": APP,
    "orchestrator.workers.process": APP | {"orchestrator.workers.process"},
    # The pytest plugin stands apart: pytest loads it in every project, so it brings nothing until it is used.
    "orchestrator.testing": APP | {"orchestrator.testing"},
    # Composition roots: they wire, and nobody imports them.
    "orchestrator.cli": TOOLS | {"orchestrator.cli", "orchestrator", "orchestrator.workers.process"},
    "orchestrator.celery": {"orchestrator.workers.app"},
    "orchestrator.__main__": {"orchestrator.cli"},
    "orchestrator.workers": {"orchestrator.celery"},  # the door that the folder has in a checkout
    "orchestrator": CLIENT,
}
"""The longest matching name counts, for both sides. A module missing here may import nothing of ours. Imports inside
functions and those for the type checker count like all others."""

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

OUTWARD: Final = {f"orchestrator.webhooks.out.{name}" for name in ("bounds", "mail", "post", "send")}
"""The modules of webhooks that speak to others."""


def modules() -> Iterator[tuple[str, Path]]:
    folders = {"orchestrator": ROOT / "orchestrator"}
    folders |= {f"orchestrator.{name}": ROOT / name for name in ("workers", "schedules")}
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            inner = parts[:-1] if parts[-1] == "__init__" else parts
            yield ".".join((package, *inner)), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Imported module and line, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import():
                yield from ((alias.name, node.lineno) for alias in node.names)
            case ast.ImportFrom():
                # `from orchestrator import errors` imports a module too.
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def layer(name: str) -> str | None:
    """The longest entry of the map that `name` is or lies below."""
    parts = name.split(".")
    return next((found for end in range(len(parts), 0, -1) if (found := ".".join(parts[:end])) in ALLOWED), None)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in {"orchestrator", "workers", "schedules"}


def _allowed(own: str, target: str | None) -> bool:
    """A room's entry lets in what lies below it."""
    if target is None:
        return False
    parts = target.split(".")
    return any(
        ".".join(parts[:end]) in ALLOWED[own] | {own} - {"orchestrator"} for end in range(2, len(parts) + 1)
    ) or (target == "orchestrator" and target in ALLOWED[own] | {own})


ALL: Final = list(modules())


@pytest.mark.parametrize(("module", "path"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    own = layer(module)
    wrong = [
        f"{path}:{line}: {own} may not import {name}"
        for name, line in imports(path)
        if _is_ours(name) and own is not None and not _allowed(own, layer(name))
    ]
    assert wrong == []


@pytest.mark.parametrize(("module", "path"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_every_module_has_a_place_in_the_map(module: str, path: Path) -> None:
    own = layer(module)
    assert own not in {None, "orchestrator"} or module == "orchestrator", f"{path}: add {module} to the map"
    assert own != "orchestrator.workers" or module == own, f"{path}: add {module} to the map"


def test_no_room_is_part_of_a_circle() -> None:
    """Each entry of the map names rooms below it: put in order, none comes twice."""
    below = {own: {other for other in rooms if other in ALLOWED} - {own} for own, rooms in ALLOWED.items()}
    list(graphlib.TopologicalSorter(below).static_order())


def test_no_modules_of_two_rooms_import_each_other_in_a_circle() -> None:
    """Lazy imports and those for the type checker too. Inside a room, a definition and its checks may."""
    names = {module for module, _ in ALL}
    edges: dict[str, set[str]] = {module: set() for module in names}
    for module, path in ALL:
        for name, _ in imports(path):
            target = name if name in names else name.rpartition(".")[0]
            if target in names and layer(target) != layer(module):
                edges[module].add(target)
    list(graphlib.TopologicalSorter(edges).static_order())


def test_core_touches_nothing_outside() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for module, path in ALL
        if module.startswith(("orchestrator.core", "orchestrator.webhooks")) and module not in OUTWARD
        for name, line in imports(path)
        if name.split(".")[0] in NOT_IN_CORE
    ]
    assert wrong == []


def test_the_engine_knows_nothing_of_celery() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for module, path in ALL
        if layer(module)
        in {"orchestrator.core", "orchestrator.ledger", "orchestrator.engine", "orchestrator.authoring"}
        for name, line in imports(path)
        if name.split(".")[0] in {"celery", "kombu", "redis", "redbeat"}
    ]
    assert wrong == []


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from orchestrator.cli import run\n"
        "def f():\n    from orchestrator.engine.steps import claim_step\n"
    )
    assert ("orchestrator.engine.steps.claim_step", 5) in list(imports(wrong))
    assert ("orchestrator.cli.run", 3) in list(imports(wrong))
    assert layer("orchestrator.engine.steps.claim_step") == "orchestrator.engine"
    assert not _allowed("orchestrator.core", "orchestrator.engine")
    assert not _allowed("orchestrator.ledger", "orchestrator")
