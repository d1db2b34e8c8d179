"""The source of a function, and what the names in it stand for."""

import ast
import builtins
import contextlib
import importlib
import inspect
import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

_UNKNOWN: Final = object()
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One function as it is written."""

    file: str
    node: Definition
    outer: Mapping[str, object] = field(repr=False)  # what its free names stand for

    @classmethod
    def of(cls, fn: FunctionType) -> "Source | None":
        """None: the source is not there (an interactive session, `exec`), or is not what was loaded."""
        node = _definition(fn.__code__)
        return None if node is None else cls(fn.__code__.co_filename, node, {**fn.__globals__, **_closure(fn)})

    @classmethod
    def of_code(cls, code: CodeType, names: Mapping[str, object]) -> "Source | None":
        """Like `of`, for a function that runs: `names` are those that it sees."""
        node = _definition(code)
        return None if node is None else cls(code.co_filename, node, names)

    @cached_property
    def _local(self) -> dict[str, object]:
        """Names bound in the function: what an import gives, else unknown."""
        arguments = [one for one in ast.walk(self.node.args) if isinstance(one, ast.arg)]
        names: dict[str, object] = {one.arg: _UNKNOWN for one in arguments}
        for part in parts(self.node.body):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
                names[part.id] = _UNKNOWN
            elif isinstance(part, ast.Import | ast.ImportFrom):
                names.update(_imported(part))
            elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names[part.name] = _UNKNOWN
        return names

    def value(self, expression: ast.expr, *, outside: bool = False) -> object:
        """What a name or a dotted name stands for before anything runs; None when that cannot be said.

        `outside`: as the defaults of parameters see it.
        """
        found = self._value(expression, outside)
        return None if found is _UNKNOWN else found

    def _value(self, expression: ast.expr, outside: bool) -> object:
        if isinstance(expression, ast.Name):
            if expression.id in self._local and not outside:
                return self._local[expression.id]
            return self.outer.get(expression.id, getattr(builtins, expression.id, _UNKNOWN))
        if isinstance(expression, ast.Attribute):
            owner = self._value(expression.value, outside)
            if isinstance(owner, ModuleType | type):  # of other objects, reading an attribute may run code
                with contextlib.suppress(Exception):
                    return getattr(owner, expression.attr)
        return _UNKNOWN


def parts(nodes: "ast.AST | list[Any]", *, inner: bool = False) -> Iterator[ast.AST]:
    """Everything in a piece of source, in order. `inner`: also what stands in functions and classes defined in it."""
    for node in nodes if isinstance(nodes, list) else [nodes]:
        yield node
        if inner or not isinstance(node, _SCOPES):
            for child in ast.iter_child_nodes(node):
                yield from parts(child, inner=inner)


def _definition(code: CodeType) -> Definition | None:
    linecache.checkcache(code.co_filename)
    return _definitions("".join(linecache.getlines(code.co_filename))).get((code.co_firstlineno, code.co_name))


@lru_cache(16)
def _definitions(text: str) -> dict[tuple[int, str], Definition]:
    """Every function of a file by the line it begins at (its first decorator's) and its name."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found = [node for node in ast.walk(tree) if isinstance(node, Definition)]
    return {(min([node.lineno, *(one.lineno for one in node.decorator_list)]), node.name): node for node in found}


def _closure(fn: FunctionType) -> dict[str, object]:
    found = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not bound yet
            found[name] = cell.cell_contents
    return found


def _imported(statement: ast.Import | ast.ImportFrom) -> dict[str, object]:
    """What an import in the function binds; the function is about to run it anyway."""
    names: dict[str, object] = {}
    for one in statement.names:
        names[one.asname or one.name.partition(".")[0]] = _UNKNOWN
        with contextlib.suppress(Exception):
            if isinstance(statement, ast.ImportFrom):
                assert statement.module is not None
                assert not statement.level
                names[one.asname or one.name] = getattr(importlib.import_module(statement.module), one.name)
            else:
                module = importlib.import_module(one.name)
                top = importlib.import_module(one.name.partition(".")[0])
                names[one.asname or top.__name__] = module if one.asname else top
    return names


def function_of(value: object) -> FunctionType | None:
    """The plain function behind a function or a method, without what decorates it."""
    found = inspect.unwrap(getattr(value, "__func__", value)) if isinstance(value, FunctionType | MethodType) else None
    return found if isinstance(found, FunctionType) else None
