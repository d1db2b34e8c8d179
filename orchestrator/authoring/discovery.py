"""Finding flows: modules and .py files by name, installed packages by the entry-point group `orchestrator.flows`."""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.authoring.flow import Flow
from orchestrator.authoring.where import is_own
from orchestrator.core.suggest import closest
from orchestrator.errors import AuthoringError, DiscoveryError, OrchestratorError

GROUP = "orchestrator.flows"


def load_flows(spec: Iterable[str] = ()) -> dict[str, Flow[Any, Any]]:
    """Every flow at the top level of the named modules or .py files and of the entry points, by name.

    Modules are looked up in the current folder too.

    Raises:
        DiscoveryError: a module is missing, cannot be imported or holds no flow, or two flows have one name.
    """
    found: dict[str, Flow[Any, Any]] = {}
    for module, origin in _modules(spec):
        flows = [value for value in vars(module).values() if isinstance(value, Flow)]
        if not flows:
            raise DiscoveryError(f"{origin} holds no flow. Fix: decorate a function in it with `@flow`.", origin=origin)
        _add(found, flows)
    for flows in _from_entry_points():
        _add(found, flows)
    return found


def _modules(spec: Iterable[str]) -> Iterator[tuple[ModuleType, str]]:
    for name in spec:
        yield (_load_file(Path(name)), name) if _is_file(name) else (_load_module(name), name)


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _add(found: dict[str, Flow[Any, Any]], flows: Iterable[Flow[Any, Any]]) -> None:
    for flow in flows:
        other = found.setdefault(flow.name, flow)
        if other is not flow and not _is_same(other, flow):
            places = f"{other.place or 'a manifest'} and {flow.place or 'a manifest'}"
            raise DiscoveryError(
                f'Two flows have the name `{flow.name}`: {places}. Fix: name one with `@flow(name="…")`.',
                flow=flow.name,
            )


def _is_same(one: Flow[Any, Any], other: Flow[Any, Any]) -> bool:
    """One source file may be loaded under two names: as a file and by an import of a neighbour."""
    return one.place is not None and one.place == other.place and one.manifest.hash == other.manifest.hash


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise DiscoveryError(f"{name!r} is no module name. Fix: give `package.module` or a path that ends in .py.")
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise DiscoveryError(f"There is no module {name!r}. Fix: {_hint(name)}", module=name) from exc
        raise _import_failed(name, exc) from exc
    except Exception as exc:
        raise _import_failed(name, exc) from exc


def _hint(name: str) -> str:
    local = [path.stem for path in Path.cwd().glob("*.py")]
    match = closest(name.partition(".")[0], local)
    if match is not None and match != name:
        return f"did you mean `{match}`?"
    return "check the name and PYTHONPATH, or give the path of a .py file."


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name made of its path, the same in every process, so that its classes can be pickled."""
    full = path.resolve()
    if not full.is_file():
        raise DiscoveryError(f"There is no file {path}. Fix: check the path; here is {Path.cwd()}.", module=str(path))
    _put_on_path(full.parent)
    name = f"orchestrator_flows_{full.stem}_{hashlib.sha256(str(full).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"{path} is no Python file. Fix: give a path that ends in .py.", module=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: annotations and pickles look it up
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        del sys.modules[name]
        raise _import_failed(str(path), exc) from exc
    return module


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_failed(name: str, exc: Exception) -> DiscoveryError:
    """Names the innermost line of the user's code; an authoring error already names its line."""
    if isinstance(exc, OrchestratorError):
        where = "" if isinstance(exc, AuthoringError) else f" at {_place(exc)}"
        return DiscoveryError(f"{name} cannot be loaded{where}: {exc.message}", module=name)
    return DiscoveryError(
        f"{name} cannot be loaded: {type(exc).__name__}: {exc} at {_place(exc)}. Fix: correct that line.", module=name
    )


def _place(exc: Exception) -> str:
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{exc.filename}:{exc.lineno}"
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if "importlib" not in f.filename]
    user = [f for f in frames if not is_own(f.filename)] or frames
    return f"{user[-1].filename}:{user[-1].lineno}" if user else "an unknown line"


def _from_entry_points() -> Iterator[list[Flow[Any, Any]]]:
    """An entry point names a flow, a list of flows, or a module that holds flows."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            value = point.load()
        except Exception as exc:
            raise _import_failed(f"The entry point `{point.name} = {point.value}`", exc) from exc
        yield _flows_in(value, f"{point.name} = {point.value}")


def _flows_in(value: object, origin: str) -> list[Flow[Any, Any]]:
    parts = [value] if isinstance(value, Flow) else vars(value).values() if isinstance(value, ModuleType) else value
    flows = [part for part in parts if isinstance(part, Flow)] if isinstance(parts, Iterable) else []
    if not flows:
        raise DiscoveryError(
            f"The entry point `{origin}` holds no flow. Fix: name a flow or a module with flows.", origin=origin
        )
    return flows
