"""The manifest: a flow as data. What is run, drawn, compared and stored per version.

Defaults of this format never change: `to_json` and `hash` leave them out.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from orchestrator.core import checks_fields, checks_joins, checks_secrets, manifest_checks, trigger_checks, waits
from orchestrator.core.durations import Duration
from orchestrator.core.expressions import Expr, Found, Ref, find, find_bare, refs
from orchestrator.core.gates import Join
from orchestrator.core.polling import PollDef
from orchestrator.core.problem import Problem
from orchestrator.core.search import problems as search_problems
from orchestrator.core.secrets import in_schema
from orchestrator.core.signals import ApprovalDef, SignalDef
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.core.triggers import CronTrigger, EveryTrigger, ScheduleDef, Trigger, TriggerDef
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.errors import ExpressionInvalid, ManifestInvalid

__all__ = [
    "FORMAT",
    "Backoff",
    "CronTrigger",
    "EveryTrigger",
    "Manifest",
    "Problem",
    "Retry",
    "StepDef",
    "TriggerDef",
    "split_backoff",
]

FORMAT: Final = 2
"""The newest format that this release reads. Only a manifest that needs a newer construct has a higher one: workers of
the previous release go on with everything else."""

Positive = Annotated[Duration, Field(gt=timedelta(0))]
Priority = Annotated[int, Field(ge=0, le=9)]
FlowName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,100}$")]
AttributeName = Annotated[str, Field(pattern=r"^[\w\-]+(\.[\w\-]+)*$", max_length=200)]
QueueName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.\-]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def split_backoff(value: object) -> object:
    """`"1s..5m"` and lists as fields of `Backoff`; anything else unchanged."""
    if isinstance(value, str):
        first, dots, cap = value.partition("..")
        return {"first": first, "cap": cap} if dots else {"delays": [value]}
    return {"delays": value} if isinstance(value, list | tuple) else value


class Backoff(_Part):
    """Pauses between attempts: exponential (`first` doubling up to `cap`, full jitter), or `delays` as they are
    written, the last one repeating."""

    first: Positive = timedelta(seconds=1)
    cap: Positive = timedelta(minutes=5)
    delays: Annotated[tuple[Duration, ...], Field(max_length=1000)] = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """From `"1s..5m"`, one duration, or a list of durations.

        Raises:
            pydantic.ValidationError: also a ValueError.
        """
        return cls.model_validate(value)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: object) -> object:
        split = split_backoff(value)
        if split is not value and isinstance(split, dict) and split.get("delays") in ([], ()):
            raise ValueError("the list of pauses is empty; write at least one, such as `1s`")
        return split

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.delays and {"first", "cap"} & self.model_fields_set:
            raise ValueError("give either `first` and `cap`, or `delays`")
        if self.first > self.cap:
            raise ValueError("`first` is longer than `cap`; swap them")
        return self


class Retry(_Part):
    """How often a step is tried, in all."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 1
    backoff: Backoff = Backoff()


def _in_order(statuses: tuple[StepStatus, ...]) -> tuple[StepStatus, ...]:
    return tuple(sorted(set(statuses)))


def _status_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_text(value: object) -> object:
    """A bool of JSON as it is written in an expression."""
    return str(value).lower() if isinstance(value, bool) else value


Condition = Annotated[str, BeforeValidator(_as_text)]
"""An expression that is true or false. Like every field that holds nothing else, it need not begin with "@"."""
Statuses = Annotated[tuple[StepStatus, ...], BeforeValidator(_status_list), AfterValidator(_in_order)]


class StepDef(_Part):
    """A step (`type`, `inputs`), a loop (`for_each`, `steps`), a merge (`value`), a requirement (`require`), a wait
    (`sleep`, `until`, `signal`, `approval`) or a call of a flow (`flow`, `inputs`). None means: the flow's or the
    worker's default."""

    type: str | None = None
    inputs: dict[str, JsonValue] = {}
    run_after: dict[str, Statuses] = {}
    queue: QueueName | None = None
    priority: Priority | None = None
    retry: Retry | None = None
    timeout: Positive | None = None
    queue_timeout: Positive | None = None
    transactional: bool = False
    description: str | None = None
    poll: PollDef | None = None
    for_each: JsonValue = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    errors: Literal["fail", "collect"] = "fail"
    """What failed items do to their loop: it fails, or gives one outcome per item."""
    stop_on_failure: bool = False
    steps: dict[str, "StepDef"] = {}
    output: JsonValue = None
    """Of a loop with several steps: what each item gives."""
    when: Condition | None = None
    join: Join = Join.ALL
    may_fail: bool = False
    value: str | None = None
    rest: Literal["withdraw", "leave"] = "withdraw"
    require: Condition | None = None
    message: str | None = None
    sleep: waits.Length | None = None
    until: waits.Time | None = None
    signal: SignalDef | None = None
    approval: ApprovalDef | None = None
    flow: FlowName | None = None
    flow_version: Annotated[int, Field(ge=1)] | None = None
    detached: bool = False
    secret: tuple[tuple[str | int, ...], ...] = ()
    """Where secrets are in what it returns: paths, `*` for every item; the empty one is the whole."""

    @property
    def kind(self) -> StepKind:
        """What this step is, read from what it has."""
        if self.steps or self.for_each is not None:
            return StepKind.LOOP
        if self.value is not None:
            return StepKind.MERGE
        if any(one is not None for one in (self.sleep, self.until, self.signal, self.approval)):
            return StepKind.WAIT
        if self.flow is not None:
            return StepKind.FLOW
        return StepKind.TASK if self.require is None else StepKind.REQUIRE

    @property
    def is_loop(self) -> bool:
        """Whether this step fans out over a list."""
        return self.kind is StepKind.LOOP

    @property
    def is_graph(self) -> bool:
        """Whether this loop runs a graph for each item, which has a row of its own, and not just one plain step."""
        return len(self.steps) > 1 or self.output is not None or not all(map(_is_one_plain_step, self.steps.values()))

    @property
    def format(self) -> int:
        """The lowest format that has its fields, and those of its loop body."""
        graph = self.is_loop and self.is_graph
        own = 1 if _FIRST_FORMAT.issuperset(checks_fields.given(self)) and not graph else 2
        return max([own, *(child.format for child in self.steps.values())])

    def found(self) -> Iterable[Found]:
        """Its expressions, each with its place in it, without its loop body's."""
        yield from find(self.inputs, ("inputs",))
        yield from find(self.for_each, ("for_each",))
        yield from find(self.output, ("output",))
        for name in ("when", "value", "require"):
            yield from find_bare(getattr(self, name), (name,))
        yield from waits.found(self)
        for name, wait in (("signal", self.signal), ("approval", self.approval)):
            yield from find(None if wait is None else wait.values, (name,))

    def expressions(self) -> Iterable[Expr]:
        """Those of this step that can be read, without its loop body's."""
        return (one.expr for one in self.found() if not isinstance(one.expr, ExpressionInvalid))

    def references(self) -> Iterable[Ref]:
        """What this step reads: its inputs, its list, and what its loop body reads from outside the loop."""
        own = self.steps if self.is_loop and self.is_graph else {}
        read = [ref for expr in self.expressions() for ref in refs(expr)]
        inner = (ref for child in self.steps.values() for ref in child.references() if ref.root == "step")
        yield from (ref for ref in (*read, *inner) if ref.key is None or ref.key not in own)


def _is_one_plain_step(step: StepDef) -> bool:
    asks = step.join is not Join.ALL or step.when is not None or step.may_fail
    return step.kind is StepKind.TASK and not asks


_FIRST_FORMAT: Final = frozenset(
    {"type", "inputs", "run_after", "queue", "priority", "retry", "timeout", "queue_timeout", "transactional"}
    | {"description", "for_each", "concurrency", "steps"}
)
"""Fields of steps."""
_ANY_END: Final = _in_order(tuple(checks_joins.ANY_END))


def _with_data_dependencies(steps: dict[str, StepDef]) -> dict[str, StepDef]:
    """References imply `run_after: succeeded`, so that `run_after` holds every predecessor."""
    return {key: with_predecessors(step) for key, step in steps.items()}


def with_predecessors(step: StepDef, among: Collection[str] | None = None) -> StepDef:
    """With the edges that its expressions imply, to steps that it stands `among`; those of `all_done` take any end."""
    if step.is_loop and step.is_graph:
        inner = {key: with_predecessors(child, step.steps) for key, child in step.steps.items()}
        step = step.model_copy(update={"steps": inner}) if inner != step.steps else step
    implied: dict[str, tuple[StepStatus, ...]] = {}
    for ref in step.references():
        if ref.key is not None and (
            among is None or ref.key in among
        ):  # whoever reads an output wants one; how a step ended can be read however it ended
            implied[ref.key] = (StepStatus.SUCCEEDED,) if ref.member == "output" else implied.get(ref.key, _ANY_END)
    missing = {key: implied[key] for key in sorted(implied.keys() - step.run_after.keys())}
    every = {**step.run_after, **missing}
    if step.join is Join.ALL_DONE:
        every = {key: step.run_after.get(key) or _ANY_END for key in every}
    return step.model_copy(update={"run_after": every}) if every != step.run_after else step


def _is_plain(expr: Expr) -> bool:
    return isinstance(expr, Ref) and expr.root != "headers" and expr.member == "output" and expr.loop is None


_ANY_INPUT: dict[str, JsonValue] = {"type": "object"}


class Manifest(_Part):
    """A whole flow. An invalid one cannot be made: every problem is listed in one ManifestInvalid."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: FlowName
    version: Annotated[str, Field(min_length=1, max_length=100)] = "1"
    description: str | None = None
    deadline: Positive | None = None
    tags: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    queue: QueueName = "default"
    idempotency_ttl: Positive = timedelta(hours=24)
    input_schema: dict[str, JsonValue] = _ANY_INPUT
    triggers: dict[str, Trigger] = {"manual": TriggerDef()}
    steps: Annotated[dict[str, StepDef], AfterValidator(_with_data_dependencies)]
    output: JsonValue = None
    output_schema: dict[str, JsonValue] | None = None
    when_errors: Literal["fail", "skip"] = "fail"
    """What an error in a `when` does to the step."""
    search: Annotated[tuple[AttributeName, ...], Field(max_length=20)] = ()
    """Values of the input, by their dotted paths, by which runs are found."""
    secret_names: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """Fields that are secret by their names, besides those that always are."""
    asked_format: Annotated[Literal[1, 2], Field(alias="format")] = 1
    """The format whose rules hold where its constructs need a lower one."""

    def __init__(self, /, **data: Any) -> None:
        """
        Raises:
            ManifestInvalid: `problems` holds every one of them.
        """
        try:
            super().__init__(**data)
        except ValidationError as exc:
            wrong = [manifest_checks.field_problem(error, Manifest) for error in exc.errors(include_url=False)]
            raise _invalid(data, [*wrong, *_further_problems(data, exc, wrong)]) from exc
        if problems := self.problems():
            raise _invalid(data, problems)

    def problems(self, known_types: Collection[str] | None = None) -> list[Problem]:
        """What is wrong with the graph and the triggers; with `known_types` also each step of another type."""
        found = [*manifest_checks.problems(self, known_types), *trigger_checks.problems(self), *search_problems(self)]
        return found or list(checks_secrets.problems(self))

    def require(self, known_types: Collection[str] | None, extra: Iterable[Problem] = ()) -> None:
        """
        Raises:
            ManifestInvalid: a step has a type that is not among `known_types` (None: any may be), or there are `extra`
                problems.
        """
        if problems := [*self.problems(known_types), *extra]:
            raise _invalid({"name": self.name}, problems)

    @property
    def schedules(self) -> dict[str, ScheduleDef]:
        """The triggers that fire by themselves, by key."""
        return {key: one for key, one in self.triggers.items() if isinstance(one, ScheduleDef)}

    @property
    def webhooks(self) -> dict[str, WebhookTrigger]:
        """Those that publishers call, by slug."""
        return {key: one for key, one in self.triggers.items() if isinstance(one, WebhookTrigger)}

    @cached_property
    def format(self) -> int:
        """The lowest format that its constructs need: the first for references alone and the fields that it had, the
        second for everything else, and where it is asked for."""
        if self.asked_format > 1 or self.search or self.secret_names or self.webhooks or in_schema(self.input_schema):
            return 2
        if self.when_errors != "fail" or any(step.format > 1 for step in self.steps.values()):
            return 2
        loops = [child for step in self.steps.values() for child in step.steps.values()]
        read = [expr for step in (*self.steps.values(), *loops) for expr in step.expressions()]
        read += [one.expr for one in find(self.output) if not isinstance(one.expr, ExpressionInvalid)]
        polls = any(step.poll for step in (*self.steps.values(), *loops))
        return 1 if all(map(_is_plain, read)) and not polls else 2

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the same in every process and for every order of keys."""
        canonical = json.dumps(self._plain(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> str:
        """Compact JSON, without defaults; `Manifest.from_json` reads it back."""
        return json.dumps(self._plain(), separators=(",", ":"), ensure_ascii=False)

    def _plain(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON that a person or `to_json` wrote.

        Raises:
            ManifestInvalid: it is not JSON, holds a key twice, or describes no valid flow.
        """
        data, problems = manifest_checks.read_json(text)
        if problems:
            raise _invalid(data, problems)
        return cls(**data)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """A checked copy: unlike pydantic's own, `update` is validated."""
        known = type(self).model_fields.items()
        fields = {field.alias or name: getattr(self, name) for name, field in known}  # dict(self) has the hash too
        return type(self).model_validate({**fields, **(update or {})})


def _further_problems(data: dict[str, Any], exc: ValidationError, wrong: list[Problem]) -> list[Problem]:
    """Problems of the graph that remain when every field with a wrong value is left out."""
    pruned = manifest_checks.without_wrong_fields(data, [error["loc"] for error in exc.errors(include_url=False)])
    places = [problem.place for problem in wrong]
    if pruned == data:  # the wrong thing has no place, such as a name that is not text
        return []
    try:
        Manifest(**pruned)
    except ManifestInvalid as rest:
        if not isinstance(rest.__cause__, ValidationError):
            return [p for p in rest.problems if not any(p.place.startswith(place) for place in places)]
    return []


def _invalid(data: object, problems: list[Problem]) -> ManifestInvalid:
    name = data.get("name") if isinstance(data, dict) else None
    head = f"Manifest {name!r}" if isinstance(name, str) else "The manifest"
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ManifestInvalid(f"{head} has {count}:\n{lines}\nFix: change what is listed.", problems=problems)
