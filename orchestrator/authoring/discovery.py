"""Finding flows: modules and .py files by name, installed packages by the entry-point group `orchestrator.flows`."""

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from orchestrator.authoring.flow import Flow
from orchestrator.authoring.modules import as_written, module_name
from orchestrator.authoring.step import AnyStep, Step
from orchestrator.authoring.where import is_own
from orchestrator.core.suggest import closest
from orchestrator.errors import AuthoringError, DiscoveryError, OrchestratorError

GROUP = "orchestrator.flows"


class Loaded(NamedTuple):
    """What modules hold: flows by name, and every step that a worker with them serves."""

    flows: dict[str, Flow[Any, Any]]
    steps: list[AnyStep]


def load_flows(spec: Iterable[str] = ()) -> dict[str, Flow[Any, Any]]:
    """The flows of `load`."""
    return load(spec).flows


def load(spec: Iterable[str] = ()) -> Loaded:
    """Every flow at the top level of the named modules or .py files and of the entry points, by name, and every step
    there or in a flow.

    Modules are looked up in the current folder too, after everything that is installed.

    Raises:
        DiscoveryError: a module is missing, cannot be imported or holds no flow and no step, or two flows have one
            name.
    """
    found: dict[str, Flow[Any, Any]] = {}
    steps: list[AnyStep] = []
    for module, origin in _modules(spec):
        flows = [value for value in vars(module).values() if isinstance(value, Flow)]
        own = [value for value in vars(module).values() if isinstance(value, Step)]
        if not flows and not own:
            fix = _hidden(Path.cwd(), module) or "decorate a function in it with `@flow`."
            raise DiscoveryError(f"{origin} holds no flow. Fix: {fix}", origin=origin)
        _add(found, flows)
        steps += own
    for flows in _from_entry_points():
        _add(found, flows)
    return Loaded(found, [*steps, *(step for flow in found.values() for step in flow.handlers.values())])


def _modules(spec: Iterable[str]) -> Iterator[tuple[ModuleType, str]]:
    for name in spec:
        yield (_load_file(Path(name)), name) if _is_file(name) else (_load_module(name), name)


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _add(found: dict[str, Flow[Any, Any]], flows: Iterable[Flow[Any, Any]]) -> None:
    """With the flows that they call."""
    for flow in flows:
        if found.get(flow.name) is not flow:
            _add(found, flow.called.values())
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
        raise DiscoveryError(f"{name!r} is not a module name. Fix: give `package.module` or a path that ends in .py.")
    _put_on_path(Path.cwd())
    with _explained(name, Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
                raise DiscoveryError(f"There is no module {name!r}. Fix: {_hint(name)}", module=name) from exc
            raise


def _hint(name: str) -> str:
    local = [path.stem for path in Path.cwd().glob("*.py")]
    match = closest(name.partition(".")[0], local)
    if match is not None and match != name:
        return f"did you mean `{match}`?"
    return "check the name and PYTHONPATH, or give the path of a .py file."


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name derived from its path: the same in every process, so its classes can be pickled."""
    full = path.resolve()
    if not full.is_file():
        fix = f"check the path; the current folder is {Path.cwd()}."
        raise DiscoveryError(f"There is no file {path}. Fix: {fix}", module=str(path))
    _put_on_path(full.parent)
    name = module_name(full)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"{path} is not a Python file. Fix: give a path that ends in .py.", module=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: annotations and pickles look it up
    try:
        with _explained(str(path), full.parent):
            spec.loader.exec_module(module)
    except DiscoveryError:
        del sys.modules[name]
        raise
    return module


def _put_on_path(folder: Path) -> None:
    """Behind the installed packages: a project's own `queue.py` must not shadow what libraries import."""
    if str(folder) in sys.path:
        return
    installed = set(sysconfig.get_paths().values())
    last = max((at for at, entry in enumerate(sys.path) if entry in installed), default=len(sys.path))
    sys.path.insert(last + 1, str(folder))


@contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    """Report whatever goes wrong while a module is loaded with the user's own line; `sys.exit` does not end us."""
    try:
        yield
    except DiscoveryError:
        raise
    except SystemExit as exc:
        message = f"{name} ended itself while it was loaded: sys.exit({exc.code!r}) at {_place(exc)}."
        fix = 'a module of flows is only imported; keep what a program does under `if __name__ == "__main__":`.'
        raise DiscoveryError(f"{message} Fix: {fix}", module=name) from exc
    except Exception as exc:
        raise _import_failed(name, exc, folder) from exc


def _import_failed(name: str, exc: Exception, folder: Path) -> DiscoveryError:
    """Names the innermost line of the user's code; an authoring error already names its line."""
    if isinstance(exc, OrchestratorError):
        where = "" if isinstance(exc, AuthoringError) else f" at {_place(exc)}"
        return DiscoveryError(f"{name} cannot be loaded{where}: {exc.message}", module=name)
    place = _place(exc)
    if place is None:  # none of its lines ran: it is not text, not UTF-8, or not readable
        message = f"{name} cannot be read as Python: {type(exc).__name__}: {exc}"
        return DiscoveryError(f"{message}. Fix: give a readable text file of Python code.", module=name)
    fix = _fix(name, exc, folder)
    return DiscoveryError(
        as_written(f"{name} cannot be loaded: {type(exc).__name__}: {exc} at {place}. Fix: {fix}"), module=name
    )


def _fix(name: str, exc: Exception, folder: Path) -> str:
    text = str(exc)
    if "partially initialized module" in text:
        return "two modules import each other; move what both need into a third."
    if "relative import with no known parent" in text:
        return f"name the module instead of the file: `{_dotted(Path(name).resolve())}`."
    owner = exc.obj if isinstance(exc, AttributeError) else sys.modules.get(getattr(exc, "name", None) or "")
    return _hidden(folder, owner) or "correct that line."


def _dotted(file: Path) -> str:
    """A file of a package as a module: from the current folder, or from the folder above the package."""
    parts = [file.stem, file.parent.name]
    folder = file.parent.parent
    while folder != Path.cwd() and (folder / "__init__.py").exists():
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts))


def _hidden(folder: Path, module: object) -> str | None:
    """What to do about a module of the project that an installed module of the same name hides."""
    if not isinstance(module, ModuleType) or getattr(module, "__file__", None) is None:
        return None
    top = module.__name__.partition(".")[0]
    for own in (folder / f"{top}.py", folder / top):
        if own.exists() and not Path(str(module.__file__)).resolve().is_relative_to(own):
            return f"rename {own}: `import {top}` gives the installed module of that name, {module.__file__}."
    return None


def _place(exc: BaseException) -> str | None:
    """`file:line` of the user's code; None when none of it was reached."""
    if isinstance(exc, SyntaxError) and exc.filename and exc.lineno:
        return f"{exc.filename}:{exc.lineno}"
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if "importlib" not in f.filename]
    user = [f for f in frames if not is_own(f.filename)]
    return f"{user[-1].filename}:{user[-1].lineno}" if user else None


def _from_entry_points() -> Iterator[list[Flow[Any, Any]]]:
    """An entry point names a flow, a list of flows, or a module that holds flows."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        with _explained(f"The entry point `{point.name} = {point.value}`", Path.cwd()):
            value = point.load()
        yield _flows_in(value, f"{point.name} = {point.value}")


def _flows_in(value: object, origin: str) -> list[Flow[Any, Any]]:
    parts = [value] if isinstance(value, Flow) else vars(value).values() if isinstance(value, ModuleType) else value
    flows = [part for part in parts if isinstance(part, Flow)] if isinstance(parts, Iterable) else []
    if not flows:
        raise DiscoveryError(
            f"The entry point `{origin}` holds no flow. Fix: name a flow or a module with flows.", origin=origin
        )
    return flows
