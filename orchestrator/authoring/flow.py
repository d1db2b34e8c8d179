"""`@flow`: a function whose body is traced once, at registration, into a manifest."""

import inspect
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, ParamSpec, cast, overload

from pydantic import JsonValue, ValidationError
from typing_extensions import TypeVar

from orchestrator.authoring.calls import Call
from orchestrator.authoring.edges import takes_any_end
from orchestrator.authoring.nullable import why_null
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.step import AnyStep, Length, Step
from orchestrator.authoring.tracer import Tracer
from orchestrator.authoring.tracing import traced
from orchestrator.authoring.where import caller
from orchestrator.core.inputs import Inputs
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.problem import Problem
from orchestrator.core.secrets import NAMES, covers
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.taint import FlowSecrets
from orchestrator.core.taint import secret_names as secret_names_of
from orchestrator.core.values import dumps, explain, show_path
from orchestrator.errors import AuthoringError, InputInvalid, ManifestInvalid, OutputInvalid, ValueRefused
from orchestrator.webhooks import checks

if TYPE_CHECKING:
    from orchestrator.authoring.edges import JoinName
    from orchestrator.authoring.schedule import Schedule
    from orchestrator.authoring.step import BackoffLike
    from orchestrator.authoring.webhook import Webhook
    from orchestrator.core.timing import Cron, Every

P = ParamSpec("P")
R = TypeVar("R", default=Any)
_MAY_BE_NULL: Final = (
    "annotate it as `… | None`: it is null when the step that gives it was skipped, or failed and was handled"
)


class Flow(Generic[P, R]):
    """A manifest with the steps that run it. Made by `@flow` or `Flow.from_manifest`."""

    makes_a_step: ClassVar = True

    def __init__(
        self,
        manifest: Manifest,
        handlers: Mapping[str, AnyStep],
        signature: Signature | None,
        retired: Mapping[str, AnyStep] = MappingProxyType({}),
        called: "Mapping[str, AnyFlow]" = MappingProxyType({}),
    ) -> None:
        self.manifest = manifest
        self.handlers: Mapping[str, AnyStep] = MappingProxyType({**handlers, **retired})  # step type -> step
        self.retired: Mapping[str, AnyStep] = MappingProxyType(dict(retired))
        """Steps that only runs of older versions have."""
        self.signature = signature
        self.called: Mapping[str, AnyFlow] = MappingProxyType(dict(called))
        """The flows that it calls, by name."""
        self._inputs = Inputs(manifest.name, manifest.input_schema)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def fn(self) -> Callable[P, R]:
        """The function as it was written.

        Raises:
            AttributeError: the flow was made from a manifest.
        """
        if self.signature is None:
            raise AttributeError(f"flow {self.name!r} was made from a manifest and has no function")
        return cast(Callable[P, R], self.signature.fn)

    @property
    def place(self) -> str | None:
        """`file:line` of the function, None for a flow made from a manifest."""
        return self.signature.place if self.signature is not None else None

    def __repr__(self) -> str:
        return f"<flow {self.name} version {self.manifest.version}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In the body of another flow: a step that a run of this flow does, with its result.

        Raises:
            AuthoringError: anywhere else, or the arguments do not fit.
        """
        return Call(self)(*args, **kwargs)

    def options(
        self,
        *,
        key: str | None = None,
        after: Iterable[object] = (),
        join: "JoinName | None" = None,
        when: int | None = None,
        may_fail: bool | None = None,
        retries: int | None = None,
        backoff: "BackoffLike | None" = None,
        version: int | None = None,
        description: str | None = None,
    ) -> Call[P, R]:
        """This flow with options for one call in a flow body: `bill.options(key="final", retries=2)(order)`.

        Each of the `retries` is a new run. `version` is the ordinal of the version to run, else it is the one that is
        current when the step opens. The others are as in `Step.options`.

        Raises:
            AuthoringError: an option is invalid.
        """
        return Call(self).options(
            key=key,
            after=after,
            join=join,
            when=when,
            may_fail=may_fail,
            retries=retries,
            backoff=backoff,
            version=version,
            description=description,
        )

    @classmethod
    def from_manifest(cls, manifest: Manifest, steps: Iterable[AnyStep]) -> "Flow[..., Any]":
        """A flow given as data.

        Raises:
            ManifestInvalid: a step's type has no handler among `steps`, or its inputs do not fit the handler.
        """
        handlers: dict[str, AnyStep] = {}
        for one in steps:
            if handlers.setdefault(one.type, one.base).fn is not one.fn:
                raise ManifestInvalid(f"Two steps have the type `{one.type}`. Fix: name one with `@step(key=…)`.")
            one.signature.check_kinds()
        manifest.require(handlers, extra=[*_inputs_problems(manifest, handlers), *checks.problems(manifest)])
        return Flow(manifest, handlers, None)

    def encode_input(self, given: Mapping[str, Any] | None = None, /, **named: Any) -> str:
        """The flow's input as JSON text, checked, with defaults filled in.

        Values may be Python objects of the parameters' types or their JSON forms.

        Raises:
            InputInvalid: a parameter is missing, unknown or does not fit; `path` says where.
        """
        defaults = self.signature.default_values if self.signature is not None else {}
        return self.encode_given({**defaults, **(given or {}), **named})

    def encode_given(self, values: Mapping[str, Any], /, secret_names: Collection[str] = NAMES) -> str:
        """The flow's input as JSON text, checked, as it was given: a start fills in the defaults. What is refused is
        told without the values of fields with these names.

        Raises:
            InputInvalid: as `encode_input`.
        """
        names = secret_names_of(self.manifest, secret_names)
        if self.signature is None:
            return self._encode_by_schema(values, names)
        known = self.signature.inputs.parameters
        for name in values:
            if name not in known:
                hint = did_you_mean(str(name), known) or "it takes no input."
                raise self._bad_input(f"unknown input `{name}`", hint, str(name))
        try:
            return self._encode(values)
        except ValidationError as exc:
            path, text = explain(exc, hide=self.signature.arguments.secrets_by(names), names=names)
        except ValueRefused as exc:
            path, text = exc.path, exc.message.partition(" Fix: ")[0].rstrip(".")
        raise self._bad_input(text, "give what the flow's parameters take.", path)

    def _encode(self, values: Mapping[str, Any]) -> str:
        """As JSON where it is JSON already (base64 bytes, strict models), as Python objects where it is not."""
        codec = cast(Signature, self.signature).arguments
        try:
            text = dumps(values)
        except ValueRefused:
            return codec.dumps(values)
        return codec.write(codec.loads(text))

    def _encode_by_schema(self, values: Mapping[str, Any], names: frozenset[str]) -> str:
        try:
            text = dumps(values)
        except ValueRefused as exc:
            raise self._bad_input(exc.message.partition(" Fix: ")[0].rstrip("."), "replace it.", exc.path) from exc
        self._inputs.check(json.loads(text), names)
        return text

    def _bad_input(self, problem: str, fix: str, path: str) -> InputInvalid:
        problem = problem.encode(errors="backslashreplace").decode()  # a lone surrogate could not be printed
        message = f"The input of flow `{self.name}` does not fit: {problem}. Fix: {fix}"
        return InputInvalid(message, flow=self.name, path=path)

    def decode_output(self, value: JsonValue, secret_names: Collection[str] = NAMES) -> R:
        """A run's stored output as the type that the flow function returns. What does not fit is told without the
        values of fields with these names.

        Raises:
            OutputInvalid: it does not fit, such as the output of an older version.
        """
        if self.signature is None:
            return cast(R, value)
        try:
            return cast(R, self.signature.result.loads(dumps(value)))
        except ValidationError as exc:
            names = secret_names_of(self.manifest, secret_names)
            secret = self.signature.result.secrets_by(names)
            path, text = explain(exc, hide=secret, names=names)
            fix = _MAY_BE_NULL if value is None else "read it as JSON"
            message = f"The output of flow `{self.name}` does not fit its annotation: {text}. Fix: {fix}."
            raise OutputInvalid(message, flow=self.name, path=path) from (None if secret else exc)


AnyFlow = Flow[..., Any]


def _inputs_problems(manifest: Manifest, handlers: Mapping[str, AnyStep]) -> list[Problem]:
    """Inputs that a step's handler does not take, and inputs it needs and does not get."""
    found = []
    for place, one in _every("steps", manifest.steps):
        if one.type is None or one.type not in handlers:
            continue
        signature = handlers[one.type].signature
        names = signature.inputs.parameters
        for name in one.inputs.keys() - names.keys():
            hint = did_you_mean(name, names) or None
            found.append(Problem(f"{place}.inputs.{name}", f"step type `{one.type}` has no input `{name}`", hint))
        for name in names.keys() - one.inputs.keys() - signature.defaults.keys():
            found.append(Problem(f"{place}.inputs", f"step type `{one.type}` needs the input `{name}`"))
    return sorted(found, key=lambda problem: problem.place)


def _every(place: str, steps: Mapping[str, StepDef]) -> Iterator[tuple[str, StepDef]]:
    """Those inside of loops, too."""
    for key, step in steps.items():
        yield f"{place}.{key}", step
        yield from _every(f"{place}.{key}.steps", step.steps)


class FlowDecorator:
    """What `@flow(…)` gives: takes the function."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._schedules = fields.pop("schedules", None)
        self._webhooks = fields.pop("webhooks", None)
        self._retired = fields.pop("retired", None) or ()
        self._fields = {name: value for name, value in fields.items() if value is not None}

    def __call__(self, fn: Callable[P, R], /) -> Flow[P, R]:
        """
        Raises:
            AuthoringError: the body does what a placeholder cannot do, or an option is invalid.
        """
        name = self._fields.get("name", getattr(fn, "__name__", "flow"))
        signature = Signature(fn, f"flow `{name}`")
        if inspect.iscoroutinefunction(fn):
            signature.fail("is `async def`", "write `def`: its body is only traced, never run")
        if signature.context_param is not None:
            signature.fail("takes a Context", "take it in a step")
        signature.check_kinds()
        tracer, output = traced(signature, name)
        fields = {"name": name, "description": signature.summary, **self._fields}
        try:
            manifest = Manifest(
                **fields,
                input_schema=input_schema(signature),
                steps=tracer.steps,
                output=output,
                output_schema=signature.result.json_schema or None,
            )
            if manifest.format == 1 and takes_any_end(manifest.steps):
                manifest = manifest.model_copy(update={"format": 2})
        except ManifestInvalid as exc:
            raise AuthoringError(f"{signature.place}: {exc.message}", place=signature.place) from exc
        _require_secrets(manifest, tracer, signature)
        _require_none(manifest, signature)
        found: Flow[P, R] = Flow(
            manifest, tracer.handlers, signature, _retired(self._retired, tracer, signature), tracer.flows
        )
        if self._schedules is not None:
            from orchestrator.authoring.schedule import add_all  # it needs Flow

            add_all(found, self._schedules, signature.place)
        if self._webhooks is not None:
            from orchestrator.authoring.webhook import add_webhooks  # it needs Flow

            add_webhooks(found, self._webhooks, signature.place)
        return found


def _require_none(manifest: Manifest, signature: Signature) -> None:
    """A result that is null in a run that succeeds is of a type that says so."""
    why = why_null(manifest.steps, manifest.output)
    if why is not None and not _takes_null(signature):
        signature.fail(
            f"returns null when {why}, and its annotation has no `None`",
            "annotate it as `… | None`, or return `first_of(…)` of what succeeds and of what stands in for it",
        )


def _takes_null(signature: Signature) -> bool:
    try:
        signature.result.loads("null")
    except ValidationError:
        return False
    return True


def _require_secrets(manifest: Manifest, tracer: Tracer, signature: Signature) -> None:
    """A flow that is called has to know what is secret of its input: its runs are shown by its own types."""
    secrets = FlowSecrets(manifest, ())
    for place, step in _every("steps", manifest.steps):
        if step.flow is None:
            continue
        given = secrets.step(place.removeprefix("steps.").replace(".steps.", ".0.")).inputs
        takes = FlowSecrets(tracer.flows[step.flow].manifest, ()).input
        for path in sorted(given, key=str):
            if not covers(takes, frozenset({path})):
                problem = f"passes a secret as `{show_path(path)}` to flow `{step.flow}`, which does not take it as one"
                signature.fail(problem, "annotate it there as `Secret[…]`, or the field of its model")


def _retired(given: Iterable[AnyStep], tracer: Tracer, signature: Signature) -> dict[str, AnyStep]:
    """By type, the steps that the body does not call any more, for runs of older versions."""
    found: dict[str, AnyStep] = {}
    for one in given:
        if not isinstance(one, Step):
            signature.fail(f"has {one!r} in `retired`", "give steps: functions with `@step`")
        if one.type in tracer.handlers:
            signature.fail(f"calls step `{one.type}`, which is in `retired`", "leave it out of `retired`")
        found[one.type] = one.base
    return found


def input_schema(signature: Signature) -> dict[str, JsonValue]:
    """JSON Schema of the parameters, with their defaults."""
    schema = json.loads(json.dumps(signature.arguments.json_schema, default=str))
    properties = schema.setdefault("properties", {})
    for name, value in signature.default_values.items():
        properties.setdefault(name, {})["default"] = value
    return cast(dict[str, JsonValue], schema)


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    version: str | None = None,
    deadline: Length | None = None,
    tags: Iterable[str] | None = None,
    queue: str | None = None,
    idempotency_ttl: Length | None = None,
    description: str | None = None,
    schedules: "Iterable[Schedule | Cron | Every] | None" = None,
    webhooks: "Iterable[Webhook] | None" = None,
    retired: Iterable[AnyStep] | None = None,
    when_errors: Literal["fail", "skip"] | None = None,
    search: Iterable[str] | None = None,
) -> FlowDecorator: ...
def flow(fn: Callable[..., Any] | None = None, /, **fields: Any) -> Any:
    """`@flow` or `@flow(name=…, version=…, deadline=…, tags=…, queue=…)`: traces the function into a manifest.

    The parameters are the fields of the run's input, the result is the run's output. The body runs once, at
    registration: it calls steps, passes their results on, and decides nothing. `schedules` holds `Cron`, `Every` or
    `Schedule`, which has options; `webhooks` holds `Webhook`. `retired` holds steps that the body does not call any
    more, for runs in flight. A `when` that cannot be evaluated fails its step, or skips it with `when_errors="skip"`.
    `search` names parameters, or values inside of them (`"order.customer"`), by which runs are found: texts, numbers,
    bools.

    Raises:
        AuthoringError: naming file, line and what to write instead.
    """
    if unknown := sorted(fields.keys() - _OPTIONS):
        hint = did_you_mean(unknown[0], _OPTIONS)
        raise AuthoringError(f"{caller()}: `@flow` has no option `{unknown[0]}`. Fix: {hint}", place=caller())
    for option in ("tags", "search"):
        given = fields.get(option)
        if isinstance(given, str):
            raise AuthoringError(
                f"{caller()}: `{option}={given!r}` is a single string. Fix: write `{option}=[{given!r}]`.",
                place=caller(),
            )
        if given is not None:
            fields[option] = tuple(given)
    decorator = FlowDecorator(fields)
    return decorator if fn is None else decorator(fn)


_OPTIONS = frozenset(
    {"name", "version", "deadline", "tags", "queue", "idempotency_ttl", "description", "schedules", "webhooks"}
    | {"retired", "when_errors", "search"}
)
