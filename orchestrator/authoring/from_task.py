"""A Celery task as a step: its function, its name, and what it says of retries and limits, read once.

The task stays what it is: whoever calls `.delay()` gets what they always got. As a step it runs in an
`orchestrator worker`, where its `self` is the task itself, with a request of this attempt. Celery decides whether and
when the task asks for another try (`retry`, `autoretry_for`, `retry_backoff`, `max_retries`); the ledger keeps it.

Celery itself is not imported here: whoever has a task has imported it.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeVar, cast

from orchestrator.authoring.context import Context
from orchestrator.authoring.options import BadOption, StepOptions
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.where import caller
from orchestrator.core.problem import KEY
from orchestrator.errors import AuthoringError, UsageError

CONTEXT: Final = "context of the attempt"
"""The parameter of the step's function that gets the Context: no parameter of a task can have this name."""
_HOOKS: Final = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
_BASE: Final = "celery.app.task"
T = TypeVar("T")


class Task(Protocol):
    """What is used of a Celery task."""

    name: str
    app: Any
    run: Callable[..., Any]
    max_retries: int | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def push_request(self, *args: Any, **kwargs: Any) -> None: ...
    def pop_request(self) -> Any: ...


class Parts(NamedTuple):
    """What a step is made of."""

    fn: Callable[..., Any]
    settings: StepOptions
    signature: Signature


def parts(task: object, ignoring: Iterable[str], given: Mapping[str, Any]) -> Parts:
    """The parts of the step that runs this task; `given` are options of the step that replace the task's own, and
    `ignoring` names what the task has and the step may lose.

    Raises:
        AuthoringError: it is not a Celery task, or has something that a step cannot do.
    """
    found = _task(task)
    signature = TaskSignature(found)
    given = {name: value for name, value in given.items() if value is not None}
    lost = frozenset([ignoring] if isinstance(ignoring, str) else ignoring)
    if unknown := sorted(lost - {name for name, _, _ in _LOST} - {*_HOOKS}):
        signature.fail(f"is told to ignore `{unknown[0]}`", f"name some of {', '.join(sorted(_can_be_lost()))}")
    for name, why, fix in _in_the_way(found, given, lost):
        signature.fail(f"has `{name}`{why}", f"{fix}, or write `ignoring=[{name!r}]`")
    try:
        own = _options(found, signature, given)
        settings = StepOptions(description=signature.summary).merged(**{**own, **given})
    except BadOption as exc:
        signature.fail(exc.problem, exc.fix)
    return Parts(_function(found, signature), settings, signature)


class TaskSignature(Signature):
    """The parameters of a task's function. What has no annotation is plain JSON; `self` is Celery's."""

    def __init__(self, task: Task) -> None:
        method = inspect.unwrap(task.run)
        self.bound = inspect.ismethod(method)
        super().__init__(cast(Callable[..., Any], getattr(method, "__func__", method)), f"task `{task.name}`")

    def _check(self) -> None:
        empty = inspect.Parameter.empty
        own = list(self._all.parameters.values())[self.bound :]
        typed = [p.replace(annotation=Any) if p.annotation is empty else p for p in own]
        self._all = self._all.replace(parameters=typed)
        if inspect.iscoroutinefunction(self.fn):
            self.fail("is `async def`, which Celery does not run either", "make it a step with `@step`")
        super()._check()

    @cached_property
    def context_param(self) -> str | None:
        return CONTEXT


# ---- what it says ----------------------------------------------------------------------------------------------

_LOST: Final = (
    ("rate_limit", ", which holds for one worker of Celery", "limit it by a queue with a worker of few slots"),
    ("soft_time_limit", ", an exception that a step does not get", "give `timeout=`, which ends the attempt"),
    ("expires", ", a point in time", "give `queue_timeout=`, the longest wait in the queue"),
)
"""What a task may have and a step has not: attribute, why, what to write instead."""
_INSTEAD: Final = {"soft_time_limit": "timeout", "expires": "queue_timeout"}


def _can_be_lost() -> set[str]:
    return {*_HOOKS, *(name for name, _, _ in _LOST)}


def _in_the_way(task: Task, given: Mapping[str, Any], lost: frozenset[str]) -> Iterable[tuple[str, str, str]]:
    for name, why, fix in _LOST:
        value = getattr(task, name, None)
        fits = value is None or (name == "expires" and not isinstance(value, datetime))
        if not fits and name not in lost and _INSTEAD.get(name) not in given:
            yield name, f"={value!r}{why}", fix
    for name in _HOOKS:
        if _overrides(task, name) and name not in lost:
            yield name, " of its own, which only Celery's worker calls", "do it in the function"


def _options(task: Task, signature: TaskSignature, given: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own, as options of a step."""
    return {
        "key": None if "key" in given else _key(task, signature),
        "retries": None if "retries" in given else _retries(task, signature),
        "timeout": getattr(task, "time_limit", None),
        "queue_timeout": _span(getattr(task, "expires", None)),
        "priority": getattr(task, "priority", None),
    }


def _key(task: Task, signature: TaskSignature) -> str:
    name = task.name.rpartition(".")[2]
    if not KEY.fullmatch(name):
        signature.fail("has a name that no step can have", "give `key=`, of letters, digits, `_` or `-`")
    return name


def _retries(task: Task, signature: TaskSignature) -> int:
    """As many as Celery would make: none of a task that cannot ask for one."""
    automatic = bool(getattr(task, "autoretry_for", ()))
    if not automatic and not signature.bound:
        return 0
    most = dict(getattr(task, "retry_kwargs", {}) if automatic else {}).get("max_retries", task.max_retries)
    if most is None:
        signature.fail("has `max_retries=None`: it never stops", "give `retries=`, at most 999")
    return cast(int, most)


def _span(expires: object) -> object:
    return None if isinstance(expires, datetime) else expires


# ---- one attempt -----------------------------------------------------------------------------------------------


def _function(task: Task, signature: TaskSignature) -> Callable[..., Any]:
    """The step's function: with a Context one attempt of a worker, without one the task called as a function."""

    def run(*args: Any, **given: Any) -> Any:
        context: Context | None = given.pop(CONTEXT, None)
        return task(*args, **given) if context is None else _attempt(task, given, context)

    functools.update_wrapper(run, signature.fn, updated=())
    return run


def _attempt(task: Task, given: dict[str, Any], context: Context) -> Any:
    """Call the task as Celery's worker does, with its own app as the current one; but `retry` sends no message.

    Raises:
        RetryAfter: the task asked for another try.
    """
    before = sys.modules["celery._state"].get_current_app()
    task.app.set_current()
    task.push_request(
        id=context.idempotency_key,
        root_id=context.run_id,
        retries=context.attempt - 1,
        args=(),
        kwargs=given,
        called_directly=False,
        is_eager=True,  # whoever retries it is not Celery
    )
    call = task if _overrides(task, "__call__") else task.run
    try:
        return call(**given)
    except sys.modules["celery.exceptions"].Retry as asked:
        raise _again(task, asked, given) from (asked.exc if isinstance(asked.exc, BaseException) else asked)
    finally:
        task.pop_request()
        before.set_current()


def _again(task: Task, asked: Any, given: Mapping[str, Any]) -> Exception:
    sig = asked.sig
    if sig is not None and (tuple(sig.args or ()) or dict(sig.kwargs or {}) != given):
        return UsageError(
            f"Task {task.name} asked to be tried again with other arguments, and a step keeps its inputs. "
            "Fix: call `retry` without `args` and `kwargs`, or keep what changes in a table of yours."
        )
    cause = asked.exc
    said = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(cause or "")
    return RetryAfter(_delay(task, asked.when), said or f"task {task.name} asked to be tried again")


def _delay(task: Task, when: object) -> timedelta:
    if isinstance(when, datetime):
        aware = when if when.tzinfo is not None else when.replace(tzinfo=task.app.timezone)
        return aware - datetime.now(UTC)
    return timedelta(seconds=float(cast(float, when) or 0))


# ---- Celery's objects ------------------------------------------------------------------------------------------


def _task(given: object) -> Task:
    """The task itself: `@app.task` gives a proxy, so that the app may be configured later.

    Raises:
        AuthoringError: it is something else, or belongs to no app of the project.
    """
    look = getattr(type(given), "_get_current_object", None)
    found: Any = look(given) if look is not None else given
    if not any(kind.__module__ == _BASE for kind in type(found).__mro__):
        _refuse(f"{given!r} is not a Celery task", "give a function with `@app.task` or `@shared_task`")
    if hasattr(found.app, "worker_state"):
        _refuse(
            f"shared task `{found.name}` has no app of yours yet",
            "import the module that makes your Celery app before the one that holds this line",
        )
    return cast(Task, found)


def _refuse(problem: str, fix: str) -> NoReturn:
    raise AuthoringError(f"{caller()}: {problem}. Fix: {fix}.", place=caller())


def _overrides(task: Task, name: str) -> bool:
    """Whether the task's own classes define this, not Celery's base class."""
    own = (kind for kind in type(task).__mro__ if not kind.__module__.startswith("celery."))
    return any(name in vars(kind) for kind in own if kind is not object)
