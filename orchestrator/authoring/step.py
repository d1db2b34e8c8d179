"""`@step`: a plain typed function that a worker can run.

In a flow body a call records the step and returns a placeholder typed as the step's result; anywhere else it is the
function. A step that wants the Context takes it as its first parameter; callers in a flow body leave it out.

Types: a call is typed as in a flow body, without the Context and with the result of an `async def` unwrapped.
Elsewhere use `.fn`, the function itself with its own type: `await fetch.fn(url)`, `charge.fn(Context(), order)`.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, cast, overload

from pydantic import ValidationError
from typing_extensions import TypeVar

from orchestrator.authoring import polling
from orchestrator.authoring.asked import Asked
from orchestrator.authoring.context import Context
from orchestrator.authoring.edges import JoinName
from orchestrator.authoring.literals import encode
from orchestrator.authoring.options import BadOption, StepOptions
from orchestrator.authoring.placeholder import refuse
from orchestrator.authoring.polling import Poll
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.tracer import Tracer, current
from orchestrator.core.manifest import Backoff, StepDef
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.values import explain
from orchestrator.errors import InputInvalid, OutputInvalid, ValueRefused

P = ParamSpec("P")
R = TypeVar("R", default=Any)
F = TypeVar("F", bound=Callable[..., Any], default=Any)

Length: TypeAlias = str | int | float | timedelta
"""A duration: `"30s"`, `"5m"`, a number of seconds, a timedelta."""
BackoffLike: TypeAlias = str | Sequence[Length] | Backoff
"""`"1s..5m"` (exponential, full jitter), or a list of the pauses in turn."""


def _known_only(options: Callable[..., Any]) -> Callable[..., Any]:
    """Reports an unknown option together with the known ones, which Python's own error does not name."""
    known = inspect.signature(options).parameters.keys() - {"self"}

    @functools.wraps(options)
    def checked(step: "AnyStep", /, **given: Any) -> Any:
        for name in given.keys() - known:
            fix = _BY_BLOCKS if name in _CONDITIONS else did_you_mean(name, known)
            refuse(f"`options` of step `{step.type}` has no option `{name}`", fix)
        return options(step, **given)

    return checked


_BY_BLOCKS = "write `when=…` for a condition, and `after=[failed(x)]` or `with on_failure(x):` for a failure"
_CONDITIONS = frozenset({"on", "on_failure", "on_error", "if_", "condition", "run_after"})


class Step(Generic[P, R, F]):
    """A function with its options. Made by `@step`."""

    fn: F

    def __init__(self, fn: F, settings: StepOptions, signature: Signature) -> None:
        """
        Raises:
            AuthoringError: the function cannot be a step.
        """
        self.signature = signature
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.type: str = settings.key or fn.__name__
        self.is_async: bool = inspect.iscoroutinefunction(fn)
        self.settings = settings
        self.key: str | None = None  # asked for with `options(key=…)`, for one call
        self.asked = Asked()
        self.base: Step[P, R, F] = self  # the step without the options of one call
        self.retry_on: tuple[type[BaseException], ...] = (BaseException,)
        if self.type == "<lambda>":
            self.signature.fail("is a lambda", "write a `def`")
        if settings.transactional and settings.poll is not None:
            self.signature.fail("is transactional and polls", "leave one of the two out")
        if settings.transactional and self.is_async:
            self.signature.fail("is transactional and async", "write a plain `def`: the ledger's connection is sync")

    def __repr__(self) -> str:
        return f"<step {self.type} at {self.place}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        tracer = current()
        if tracer is None:
            return cast(R, self.fn(*args, **kwargs))
        tracer.use(self.base)
        inputs = self.encode_arguments(tracer, self.bind(args, kwargs))
        key = tracer.free_key(self.key or self.type, exact=self.key is not None)
        definition = self.step_def(inputs=inputs, **self.asked.fields(tracer))
        return cast(R, tracer.add(key, definition, self.signature.returns))

    # ---- in a flow body ----

    def options(
        self,
        *,
        key: str | None = None,
        after: Iterable[object] = (),
        join: JoinName | None = None,
        when: int | None = None,
        may_fail: bool | None = None,
        retries: int | None = None,
        backoff: BackoffLike | None = None,
        timeout: Length | None = None,
        queue_timeout: Length | None = None,
        queue: str | None = None,
        priority: int | None = None,
        poll: Poll | None = None,
        description: str | None = None,
    ) -> Self:
        """This step with other options for one call: `notify.options(after=[saved], retries=2)(order)`.

        `after` holds results of steps (or their keys) that must have succeeded first, or `failed(x)`, `skipped(x)` and
        `ended(x)`; `join` says what they ask together. It runs only `when` a condition holds. The failure of what
        `may_fail` does not fail the run.

        Raises:
            AuthoringError: an option is invalid.
        """
        given = {"retries": retries, "backoff": backoff, "timeout": timeout, "queue_timeout": queue_timeout}
        other = copy.copy(self)
        try:
            asked = polling.definition(poll, self.signature.returns) if poll is not None else None
            other.settings = self.settings.merged(
                **given, key=key, queue=queue, priority=priority, poll=asked, description=description
            )
        except BadOption as exc:
            refuse(f"step `{self.type}` {exc.problem}", exc.fix)
        other.key = key if key is not None else self.key
        other.asked = self.asked.with_(after=after, join=join, when=when, may_fail=may_fail)
        return other

    if not TYPE_CHECKING:
        options = _known_only(options)

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """The arguments of one call by name.

        Raises:
            AuthoringError: one is missing, unknown or given twice.
        """
        try:
            return self.signature.bind(args, kwargs)
        except TypeError as exc:
            refuse(f"step `{self.type}`: {exc}", f"its parameters are `{self.signature.inputs}`")

    def encode_arguments(self, tracer: Tracer, given: dict[str, object]) -> dict[str, Any]:
        """The arguments as a manifest's `inputs`."""
        what = "argument `{}` of step `{}`".format
        return {
            name: encode(value, self.signature.kind(name), tracer, what(name, self.type))
            for name, value in given.items()
        }

    def step_def(self, **fields: Any) -> StepDef:
        """The manifest's definition of one call."""
        return self.settings.step_def(type=self.type, secret=self.signature.secret_result, **fields)

    # ---- on a worker ----

    @property
    def never_retry(self) -> tuple[type[BaseException], ...]:
        """Errors that fail the step at once."""
        return self.settings.never_retry

    @property
    def context_param(self) -> str | None:
        """The parameter that gets the Context."""
        return self.signature.context_param

    @property
    def place(self) -> str:
        """`file:line` of the function."""
        return self.signature.place

    def decode_inputs(self, json_text: str | bytes) -> dict[str, Any]:
        """The stored inputs as keyword arguments, without the Context; absent ones are left to their defaults.

        Raises:
            InputInvalid: they do not fit the parameters; `path` says where.
        """
        try:
            return self.signature.arguments.loads(json_text)
        except ValidationError as exc:
            hide = self.signature.arguments.secrets
            path, text = explain(exc, hide=hide)
            raise InputInvalid(
                f"The inputs of step `{self.type}` do not fit: {text}. "
                f"Fix: change what is passed to it, or its annotations at {self.place}.",
                step=self.type,
                path=path,
            ) from (None if hide else exc)

    @property
    def takes(self) -> Mapping[str, Any]:
        """The JSON Schema of its inputs, as one object."""
        return self.signature.arguments.json_schema

    @property
    def gives(self) -> Mapping[str, Any]:
        """The JSON Schema of its result."""
        return self.signature.result.json_schema

    def misfit(self, names: AbstractSet[str]) -> str | None:
        """What keeps inputs of these names from this step, in words; None when it accepts them."""
        known = self.signature.inputs.parameters
        if unknown := sorted(names - known.keys()):
            return f"it has no parameter `{unknown[0]}`"
        if missing := sorted(known.keys() - names - self.signature.defaults.keys()):
            return f"its parameter `{missing[0]}` is not given"
        return None

    def encode_output(self, value: object) -> str:
        """What the function returned as JSON text.

        Raises:
            OutputInvalid: it does not fit the annotation, or cannot be stored; `path` says where.
        """
        try:
            return self.signature.result.dumps(value)
        except ValidationError as exc:
            path, text = explain(exc, hide=self.signature.result.secrets)
        except ValueRefused as exc:
            path, text = exc.path, exc.message.partition(" Fix: ")[0].rstrip(".")
        raise OutputInvalid(
            f"The result of step `{self.type}` does not fit its annotation: {text}. "
            f"Fix: change the result or the annotation at {self.place}.",
            step=self.type,
            path=path,
        )


AnyStep: TypeAlias = Step[Any, Any, Any]


class OpenStep(Step[Concatenate[object, P], R, F]):
    """For the type checker: a step whose first parameter takes anything, so its name is not known here."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, first: object, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def __call__(self, /, **kwargs: Any) -> R: ...
        def __call__(self, /, *args: Any, **kwargs: Any) -> R: ...


class StepDecorator:
    """`@step` or `@step(retries=3, backoff="1s..5m", …)`: makes a step from a typed function."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given  # checked with the function, so that an error names its line

    # The order matters, and mypy warns of it: an `async def` also is a function that returns a coroutine, and a first
    # parameter that takes any object would pass for a Context.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[Concatenate[object, P], Coroutine[Any, Any, R]], /
    ) -> OpenStep[P, R, Callable[Concatenate[object, P], Coroutine[Any, Any, R]]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[Concatenate[object, P], R], /
    ) -> OpenStep[P, R, Callable[Concatenate[object, P], R]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Step[P, R, Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context, P], R], /
    ) -> Step[P, R, Callable[Concatenate[Context, P], R]]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Step[P, R, Callable[P, Coroutine[Any, Any, R]]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R, Callable[P, R]]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        retries: int | None = None,
        backoff: BackoffLike | None = None,
        never_retry: tuple[type[BaseException], ...] = (),
        timeout: Length | None = None,
        queue_timeout: Length | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool = False,
        poll: Poll | None = None,
        key: str | None = None,
        description: str | None = None,
    ) -> "StepDecorator": ...
    def __call__(self, fn: Any = None, /, **given: Any) -> Any:
        """
        Raises:
            AuthoringError: the function cannot be a step, or an option is invalid; it names the line.
        """
        options = {**self._given, **given}
        if fn is None:
            return StepDecorator(options)
        signature = Signature(fn, f"step `{getattr(fn, '__name__', fn)}`")
        try:
            if "poll" in options:
                options["poll"] = polling.definition(options["poll"], signature.returns)
            settings = StepOptions(description=signature.summary).merged(**options)
        except BadOption as exc:
            signature.fail(exc.problem, exc.fix)
        return Step(fn, settings, signature)

    def from_task(
        self,
        task: Callable[P, R],
        /,
        *,
        ignoring: Iterable[str] = (),
        retries: int | None = None,
        timeout: Length | None = None,
        queue_timeout: Length | None = None,
        queue: str | None = None,
        priority: int | None = None,
        key: str | None = None,
        description: str | None = None,
    ) -> Step[P, R, Callable[P, R]]:
        """A Celery task as a step. Its function, name, retries and limits are the task's; options replace them.

        Whether and when it is tried again is up to the task: `self.retry` and `autoretry_for`. `ignoring` names what
        the task has and a step cannot do, such as `["rate_limit"]`: it is lost then.

        Raises:
            AuthoringError: it is not a Celery task, or has something that a step cannot do and that is not ignored.
        """
        from orchestrator.authoring import from_task  # for those who have tasks

        options = {"retries": retries, "timeout": timeout, "queue_timeout": queue_timeout, "queue": queue}
        options |= {"priority": priority, "key": key, "description": description}
        made: Step[P, R, Callable[P, R]] = Step(*from_task.parts(task, ignoring, options))
        made.retry_on = (RetryAfter,)
        return made


step = StepDecorator({})
