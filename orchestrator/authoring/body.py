"""What a flow body may contain. It is run to see its graph, so whatever a graph cannot show is refused.

Where there is source, it is read: that of the body, of the functions it calls, and of every function through which a
step was called. An interactive session or `exec` has none; then only what placeholders notice is refused.
"""

import ast
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, NamedTuple, NoReturn

from orchestrator.authoring.blocks import BLOCKS
from orchestrator.authoring.calls import start_run
from orchestrator.authoring.each import each
from orchestrator.authoring.graphs import block
from orchestrator.authoring.impure import impure
from orchestrator.authoring.merges import MERGES
from orchestrator.authoring.placeholder import Placeholder
from orchestrator.authoring.signals import SIGNALS
from orchestrator.authoring.source import Source, function_of, parts
from orchestrator.authoring.step import Step
from orchestrator.authoring.waits import WAITS
from orchestrator.authoring.where import is_own, is_user_code
from orchestrator.errors import AuthoringError

_NOT_RUN: Final = "no step runs while the body is traced"
_DECIDE: Final = "decide in a step: it gets the value and returns what follows from it"
_ASK: Final = "write `with when(is_null(x)):` for `is None`; decide everything else in a step that gets the value"
_REFUSED: Final[dict[type[ast.AST], tuple[str, str, str]]] = {
    **dict.fromkeys(
        (ast.Try, ast.TryStar),
        (
            "try",
            f"{_NOT_RUN}, so no error of one would ever be caught",
            "catch the error in the step itself, or write `with on_failure(x):` for what runs after a failed step",
        ),
    ),
    **dict.fromkeys(
        (ast.With, ast.AsyncWith),
        (
            "with",
            f"{_NOT_RUN}, so it would be opened and closed before any of them",
            "open and close it in one step; only `when`, `otherwise`, `on_failure`, `always` and `after` are blocks of "
            "a flow",
        ),
    ),
    ast.While: ("while", _NOT_RUN, "loop in a step, with `for` over a list that is known now, or with `each(…)`"),
    ast.Match: ("match", "a value that a step gives matches nothing yet", _DECIDE),
    **dict.fromkeys(
        (ast.Global, ast.Nonlocal),
        ("global", "the body is run when it is registered, in every process, and not when a run starts", _DECIDE),
    ),
}
_BLIND: Final = (type, callable, id)
_Position = tuple[str, int | None, int | None]
_MAKERS: tuple[Any, ...] = (each, start_run, *MERGES, *WAITS, *SIGNALS)
"""What makes a step without being one."""


class _CallSite(NamedTuple):
    """A call that must lead to a step when the body is traced."""

    place: str
    name: str


@dataclass(frozen=True)
class _Function:
    """A function whose source is read. `waiting`: its names that have no value yet."""

    source: Source
    what: str  # such as "the body of flow `order`"
    waiting: frozenset[str]

    def refuse(self, node: ast.AST, problem: str, fix: str) -> NoReturn:
        file, line = self.source.file, getattr(node, "lineno", self.source.node.lineno)
        place = f"{file}:{line}"
        raise AuthoringError(f"{place}: {self.what} {problem}. Fix: {fix}.", place=place, file=file, line=line)

    @cached_property
    def calls(self) -> list[ast.Call]:
        return [part for part in parts(self.source.node.body) if isinstance(part, ast.Call)]

    @cached_property
    def _assigned(self) -> list[tuple[list[ast.expr], ast.expr]]:
        """Every assignment: its targets, and its value."""
        found: list[tuple[list[ast.expr], ast.expr]] = []
        for part in parts(self.source.node.body):
            if isinstance(part, ast.Assign):
                found.append((part.targets, part.value))
            elif isinstance(part, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and part.value is not None:
                found.append(([part.target], part.value))
            elif isinstance(part, ast.For | ast.comprehension):
                found.append(([part.target], part.iter))
            elif isinstance(part, ast.withitem) and part.optional_vars is not None:
                found.append(([part.optional_vars], part.context_expr))
        return found

    @cached_property
    def _renamed(self) -> dict[str, ast.expr]:
        """The function's own names that are assigned exactly once."""
        single = [(to[0].id, value) for to, value in self._assigned if len(to) == 1 and isinstance(to[0], ast.Name)]
        times = Counter(name for targets, _ in self._assigned for target in targets for name in _names(target))
        return {name: value for name, value in single if times[name] == 1 and name not in _names(value)}

    def step_of(self, callee: ast.expr, around: frozenset[str] = frozenset()) -> object:
        """The step (or `each`, a merge, a wait) behind a call, also with options or under a local name."""
        if isinstance(callee, ast.Call) and isinstance(callee.func, ast.Attribute) and callee.func.attr == "options":
            return self.step_of(callee.func.value, around)
        if isinstance(callee, ast.Name) and callee.id in self._renamed and callee.id not in around:
            return self.step_of(self._renamed[callee.id], around | {callee.id})
        value = self.source.value(callee)
        if isinstance(value, Step) or getattr(type(value), "makes_a_step", False):
            return value
        return value if any(value is one for one in _MAKERS) else None

    @cached_property
    def without_value(self) -> frozenset[str]:
        """Names whose values only a run has: parameters, results of steps, and whatever is computed from them."""
        found = set(self.waiting)
        before = -1
        while len(found) > before:
            before = len(found)
            for targets, value in self._assigned:
                if self._waits(value, found):
                    found.update(name for target in targets for name in _names(target))
        return frozenset(found)

    def waits(self, expression: ast.expr) -> bool:
        return self._waits(expression, self.without_value)

    def _waits(self, expression: ast.expr, unknown: frozenset[str] | set[str]) -> bool:
        calls = (part.func for part in parts(expression) if isinstance(part, ast.Call))
        return bool(_names(expression) & unknown) or any(self.step_of(callee) is not None for callee in calls)


def _is_graph(function: _Function, part: ast.AST) -> bool:
    """Whether an inner function is a `@block`, whose steps are called when it is traced."""
    return isinstance(part, ast.FunctionDef) and any(_is_one_of((block,), function, one) for one in part.decorator_list)


class Body:
    """The rules for one flow: first the source, then, while it is traced, the way to each step."""

    def __init__(self, fn: FunctionType, flow: str) -> None:
        """
        Raises:
            AuthoringError: the body, or a function it calls, contains something that no graph can show.
        """
        self._fn = inspect.unwrap(fn)
        self._flow = flow
        self._sites: dict[_Position, _CallSite] = {}
        self._reached: set[_Position] = set()
        self._positions: dict[CodeType, list[tuple[int | None, ...]]] = {}
        self._read: dict[CodeType, _Function | None] = {}
        self._seen: set[tuple[CodeType, frozenset[str]]] = set()
        source = Source.of(self._fn)
        if source is not None:
            arguments = source.node.args
            names = frozenset(one.arg for one in [*arguments.args, *arguments.kwonlyargs])
            body = _Function(source, f"the body of flow `{flow}`", names)
            self._check_defaults(body)
            self._check_purity(body)
            self._check_shape(body)
            self._check_called(body)
            self._sites = {_place(source.file, call): site for call, site in self._steps_in(body)}

    # ---- while it is traced ----

    def step_called(self, frame: FrameType | None) -> None:
        """Note every call on the way to a step, and check the functions in between.

        Raises:
            AuthoringError: one of them contains something that no graph can show.
        """
        while frame is not None and is_user_code(frame):
            self._reached.add(self._position(frame))
            if frame.f_code is not self._fn.__code__ and self._is_users(frame.f_code, frame.f_globals.get("__name__")):
                self._check_running(frame)
            frame = frame.f_back

    def require_reached(self) -> None:
        """
        Raises:
            AuthoringError: the source calls a step at a place that the trace never reached.
        """
        if any(None in position for position in self._reached):
            return  # Python was told to leave positions out (`-X no_debug_ranges`)
        for position, (place, name) in self._sites.items():
            if position not in self._reached:
                file, _, line = place.rpartition(":")
                raise AuthoringError(
                    f"{place}: the body of flow `{self._flow}` calls `{name}` here, and no step was recorded for it: "
                    "the body runs once, along one path, when it is registered. Fix: call it on that path and decide "
                    "in a step what to do, or remove the call.",
                    place=place,
                    file=file,
                    line=int(line),
                )

    def _position(self, frame: FrameType) -> _Position:
        code = frame.f_code
        if code not in self._positions:
            self._positions[code] = list(code.co_positions())
        _, line, _, column = self._positions[code][frame.f_lasti // 2]
        return code.co_filename, line, column

    def _check_running(self, frame: FrameType) -> None:
        waiting = frozenset(name for name, value in frame.f_locals.items() if isinstance(value, Placeholder))
        if (frame.f_code, waiting) in self._seen:
            return
        self._seen.add((frame.f_code, waiting))
        source = Source.of_code(frame.f_code, {**frame.f_globals, **frame.f_locals})
        if source is not None:
            self._check_shape(_Function(source, self._helper(source.node.name), waiting))

    # ---- rules ----

    def _helper(self, name: str) -> str:
        return f"`{name}`, which the body of flow `{self._flow}` calls,"

    def _check_defaults(self, function: _Function) -> None:
        arguments = function.source.node.args
        for default in [*arguments.defaults, *(one for one in arguments.kw_defaults if one is not None)]:
            self._require_pure(function, default, outside=True)

    def _check_purity(self, function: _Function) -> None:
        for statement in function.source.node.body:
            self._require_pure(function, statement)

    def _require_pure(self, function: _Function, node: ast.AST, *, outside: bool = False) -> None:
        for part in parts(node):
            if isinstance(part, ast.Name | ast.Attribute):
                found = impure(function.source.value(part, outside=outside))
                if found is not None:
                    problem = (
                        f"reads {found.what} (`{ast.unparse(part)}`): once, when it is registered, in each process"
                    )
                    function.refuse(part, problem, found.fix)

    def _check_shape(self, function: _Function) -> None:
        """A function that calls steps may contain only what a graph can show."""
        for part in parts(function.source.node.body):
            if type(part) in _REFUSED and not self._is_block(function, part):
                what, why, fix = _REFUSED[type(part)]
                function.refuse(part, f"holds a `{what}`: {why}", fix)
            if isinstance(part, ast.If | ast.IfExp) and not any(isinstance(one, ast.Name) for one in parts(part.test)):
                function.refuse(part, "holds an `if` that is always or never true", "keep the part that is meant")
            self._require_value(function, part)
            inner = isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef)
            if inner and not _is_graph(function, part):
                self._refuse_hidden(function, part)

    def _is_block(self, function: _Function, part: ast.AST) -> bool:
        """Whether a `with` opens blocks of the flow, and nothing else."""
        if not isinstance(part, ast.With):
            return False
        opened = [one.context_expr for one in part.items]
        return all(isinstance(one, ast.Call) and _is_one_of(BLOCKS, function, one.func) for one in opened)

    def _require_value(self, function: _Function, part: ast.AST) -> None:
        """`x is None` is False for a placeholder, which cannot notice that it was asked."""
        if isinstance(part, ast.Compare) and any(isinstance(one, ast.Is | ast.IsNot) for one in part.ops):
            asked = [part.left, *part.comparators]
        elif isinstance(part, ast.Call) and _is_one_of(_BLIND, function, part.func):
            asked = part.args
        else:
            return
        if any(function.waits(one) for one in asked):
            function.refuse(part, f"asks `{ast.unparse(part)}` of something that has no value yet", _ASK)

    def _refuse_hidden(self, function: _Function, scope: ast.AST) -> None:
        for part in parts(list(ast.iter_child_nodes(scope)), inner=True):
            if isinstance(part, ast.Call) and self._leads_to_step(function, part):
                where = getattr(scope, "name", "lambda")
                fix = "call it in the body itself, or in a function at the top of the module that the body calls"
                function.refuse(part, f"hides a call of `{ast.unparse(part.func)}` in `{where}`", fix)

    # ---- functions that are called ----

    def _check_called(self, function: _Function) -> None:
        for inner in self._called(function):
            key: tuple[CodeType, frozenset[str]] = (inner.code, frozenset())
            if key not in self._seen:
                self._seen.add(key)
                self._check_purity(inner.function)
                if self._records(inner.function):
                    self._check_shape(inner.function)
                self._check_called(inner.function)

    def _called(self, function: _Function) -> Iterator["_Called"]:
        return (called for call in function.calls if (called := self._called_by(function, call)) is not None)

    def _called_by(self, function: _Function, call: ast.Call) -> "_Called | None":
        """The user's function behind a call."""
        fn = function_of(function.source.value(call.func))
        if fn is None or not self._is_users(fn.__code__, fn.__module__):
            return None
        if fn.__code__ not in self._read:
            source = Source.of(fn)
            helper = None if source is None else _Function(source, self._helper(fn.__name__), frozenset())
            self._read[fn.__code__] = helper
        found = self._read[fn.__code__]
        return None if found is None else _Called(fn.__code__, found)

    def _is_users(self, code: CodeType, module: str | None) -> bool:
        """Written for these flows: neither ours, nor Python's, nor another library's."""
        top = (module or "").partition(".")[0]
        if is_own(code.co_filename) or top in sys.stdlib_module_names:
            return False
        return "site-packages" not in code.co_filename or top == self._fn.__module__.partition(".")[0]

    def _records(self, function: _Function, around: frozenset[CodeType] = frozenset()) -> bool:
        """Whether it calls a step, itself or through others."""
        return any(self._leads_to_step(function, call, around) for call in function.calls)

    def _leads_to_step(self, function: _Function, call: ast.Call, around: frozenset[CodeType] = frozenset()) -> bool:
        if function.step_of(call.func) is not None:
            return True
        called = self._called_by(function, call)
        return (
            called is not None and called.code not in around and self._records(called.function, around | {called.code})
        )

    def _steps_in(self, body: _Function) -> Iterator[tuple[ast.Call, _CallSite]]:
        """Calls of steps, and of functions that call steps."""
        for call in body.calls:
            if self._leads_to_step(body, call):
                yield call, _CallSite(f"{body.source.file}:{call.lineno}", ast.unparse(call.func))


class _Called(NamedTuple):
    code: CodeType
    function: _Function


def _is_one_of(known: tuple[Any, ...], function: _Function, called: ast.expr) -> bool:
    value = function.source.value(called)
    return any(value is one for one in known)


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in parts(node) if isinstance(part, ast.Name)}


def _place(file: str, call: ast.Call) -> _Position:
    """Where a call ends: no two calls end at the same place, and Python reports that place for a call in progress."""
    return file, call.end_lineno, call.end_col_offset
