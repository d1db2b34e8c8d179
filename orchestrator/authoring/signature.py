"""What a user's function takes and returns, and how both become JSON."""

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NotRequired

from pydantic import ConfigDict, ValidationError
from typing_extensions import TypedDict

from orchestrator.authoring import kinds
from orchestrator.authoring.context import Context
from orchestrator.authoring.where import caller_frame, place_of
from orchestrator.core.secrets import Path
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.values import Codec
from orchestrator.core.wording import sentence
from orchestrator.errors import AuthoringError, ValueRefused

_STARS: Final = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


class Signature:
    """The parameters (without the Context) and the result of a step or flow function.

    Types are looked up at first use, so that a function may name a class defined below it.
    """

    def __init__(self, fn: Callable[..., Any], what: str) -> None:
        """
        Raises:
            AuthoringError: `fn` is not a plain function, or takes `*args`, `**kwargs` or positional-only parameters.
        """
        self.fn = fn
        self.what = what  # such as "step `fetch`"
        if not inspect.isfunction(fn):
            raise AuthoringError(f"{self.what}: {fn!r} is not a function. Fix: decorate a `def` or `async def`.")
        self.place = place_of(fn)
        self._locals = _locals_of_caller() if "<locals>" in fn.__qualname__ else None
        self._all = inspect.signature(fn)
        self._check()

    def _check(self) -> None:
        if inspect.isgeneratorfunction(self.fn) or inspect.isasyncgenfunction(self.fn):
            self.fail("is a generator", "return a list instead of using `yield`")
        for name, parameter in self._all.parameters.items():
            if parameter.kind in _STARS:
                self.fail(f"takes `{_STARS[parameter.kind]}{name}`", "name each parameter: they are checked and stored")
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                self.fail(f"takes `{name}` by position only", "remove the `/`: inputs are stored by name")
            if parameter.annotation is inspect.Parameter.empty:
                self.fail(f"takes `{name}` without a type", f"annotate it: `{name}: str`, or `: Any` for plain JSON")

    def check_kinds(self) -> None:
        """
        Raises:
            AuthoringError: a parameter or the result is a stream, or holds one: what is stored can be read again.
        """
        for place, kind in [*((f"`{name}`", self.kind(name)) for name in self.inputs.parameters), ("", self.returns)]:
            if (stream := kinds.stream_in(kind)) is not None:
                what = f"takes {place} as" if place else "returns"
                self.fail(f"{what} {kinds.show(stream)}, which can be read once", "annotate it as a `list[…]`")

    def fail(self, problem: str, fix: str) -> typing.NoReturn:
        """
        Raises:
            AuthoringError: always, naming the function and its place.
        """
        raise AuthoringError(f"{self.place}: {self.what} {sentence(problem)} Fix: {sentence(fix)}", place=self.place)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.fn, localns=self._locals, include_extras=True)
        except NameError as exc:
            self.fail(f"has an annotation that cannot be read: {exc}", "import the name at run time")
        except (TypeError, SyntaxError) as exc:
            self.fail(f"has an annotation that cannot be read: {exc}", "correct it")

    @cached_property
    def context_param(self) -> str | None:
        """The parameter that gets the Context."""
        names = [name for name in self._all.parameters if _is_context(self._hints.get(name))]
        if len(names) > 1:
            self.fail(f"takes the Context {len(names)} times", "keep one")
        return names[0] if names else None

    @cached_property
    def inputs(self) -> inspect.Signature:
        """The parameters a caller in a flow body gives."""
        kept = [p for name, p in self._all.parameters.items() if name != self.context_param]
        return self._all.replace(parameters=kept)

    def kind(self, name: str) -> Any:
        """The type of a parameter; Any without an annotation."""
        return self._hints.get(name, Any)

    @property
    def returns(self) -> Any:
        """The type of the result; Any without an annotation."""
        return self._hints.get("return", Any)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The parameters that may be left out, with what they then are."""
        empty = inspect.Parameter.empty
        return {name: p.default for name, p in self.inputs.parameters.items() if p.default is not empty}

    @cached_property
    def arguments(self) -> Codec[dict[str, Any]]:
        """All inputs as one object; those with a default may be missing, unknown ones are refused."""
        fields = {n: NotRequired[self.kind(n)] if n in self.defaults else self.kind(n) for n in self.inputs.parameters}
        make: Any = TypedDict  # the type checker wants the fields written out
        shape = make(f"{self.fn.__name__}_inputs", fields)
        shape.__pydantic_config__ = ConfigDict(extra="forbid", title=self.fn.__name__)
        return self._codec(shape)

    @cached_property
    def result(self) -> Codec[Any]:
        return self._codec(self.returns)

    @property
    def secret_result(self) -> tuple[Path, ...]:
        """Where secrets are in the result, as a manifest says it."""
        return tuple(sorted(self.result.secrets, key=str))

    def _codec(self, kind: Any) -> Codec[Any]:
        try:
            return Codec(kind)
        except ValueRefused as exc:
            self.fail(f"has a type that cannot be stored: {exc.problem}", "use a type that pydantic knows")

    @cached_property
    def default_values(self) -> dict[str, Any]:
        """The defaults as JSON values."""
        found = {}
        for name, default in self.defaults.items():
            if default is not None and self._codec(self.kind(name)).secrets:
                self.fail(f"has a default for `{name}`, which is a secret", "leave it out, or make it None")
            try:
                found[name] = self._codec(self.kind(name)).to_json_value(default)
            except (ValidationError, ValueRefused) as exc:
                self.fail(f"has a default for `{name}` that does not fit its type: {exc}", "correct the default")
        return found

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The arguments by name, without defaults.

        Raises:
            TypeError: one is missing, unknown or given twice; the message reads well after "Step `x`: ".
        """
        names = self.inputs.parameters
        for name in kwargs:
            if name == self.context_param:
                raise TypeError(f"the Context `{name}` is given by the worker; leave it out")
            if name not in names:
                raise TypeError(f"unknown argument `{name}`; {did_you_mean(name, names) or 'it takes none.'}")
        return dict(self.inputs.bind(*args, **kwargs).arguments)

    @property
    def summary(self) -> str | None:
        """The first line of the docstring."""
        doc = inspect.getdoc(self.fn)
        return doc.strip().split("\n", 1)[0] if doc and doc.strip() else None


def _is_context(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Context)


def _locals_of_caller() -> dict[str, Any]:
    """Names around a function defined inside another; annotations may use them."""
    frame = caller_frame()
    return dict(frame.f_locals) if frame is not None else {}
