"""A flow called in the body of another flow: a step that a run of its own does."""

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Self, cast

from typing_extensions import TypeVar

from orchestrator.authoring.asked import Asked
from orchestrator.authoring.literals import encode
from orchestrator.authoring.options import BadOption, StepOptions
from orchestrator.authoring.placeholder import refuse
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.tracer import Tracer, current
from orchestrator.core.manifest import StepDef

if TYPE_CHECKING:
    from orchestrator.authoring.edges import JoinName
    from orchestrator.authoring.flow import Flow
    from orchestrator.authoring.step import BackoffLike

P = ParamSpec("P")
R = TypeVar("R", default=Any)


class Call(Generic[P, R]):
    """A flow with the options of one call. Made by calling it, or by `bill.options(…)`."""

    makes_a_step: ClassVar = True

    def __init__(self, flow: "Flow[P, R]") -> None:
        self.flow = flow
        self.key: str | None = None
        self.version: int | None = None
        self.settings = StepOptions()
        self.asked = Asked()
        self.detached = False

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
    ) -> Self:
        """See `Flow.options`."""
        other = copy.copy(self)
        try:
            given = {"key": key, "retries": retries, "backoff": backoff, "description": description}
            other.settings = self.settings.merged(**given)
        except BadOption as exc:
            refuse(f"flow `{self.flow.name}` {exc.problem}", exc.fix)
        other.key = key if key is not None else self.key
        other.version = self.version if version is None else self._ordinal(version)
        other.asked = self.asked.with_(after=after, join=join, when=when, may_fail=may_fail)
        return other

    def _ordinal(self, version: object) -> int:
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            fix = f"give the number of one, from 1; `orchestrator flow versions {self.flow.name}` lists them"
            refuse(f"flow `{self.flow.name}` has `version={version!r:.60}`", fix)
        return version

    def alone(self) -> Self:
        """Nobody waits for its end."""
        other = copy.copy(self)
        other.detached = True
        return other

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Raises:
            AuthoringError: outside a flow body, or the arguments do not fit.
        """
        tracer, name = current(), self.flow.name
        if tracer is None:
            refuse(
                f"flow `{name}` was called like a function",
                f"start a run with `Client.start({name}, …)`; `{name}.fn` is the plain function",
            )
        tracer.call(self.flow)
        key = tracer.free_key(self.key or name, exact=self.key is not None)
        definition = self.step(self._inputs(tracer, args, dict(kwargs)), **self.asked.fields(tracer))
        signature = self.flow.signature
        returns = str if self.detached else Any if signature is None else signature.returns
        return cast(R, tracer.add(key, definition, returns))

    def step(self, inputs: dict[str, Any], **asked: Any) -> StepDef:
        """The step that calls the flow. `asked`: fields that say when."""
        return StepDef(
            flow=self.flow.name,
            flow_version=self.version,
            detached=self.detached,
            inputs=inputs,
            retry=self.settings.retry,
            description=self.settings.description,
            secret=() if self.detached or self.flow.signature is None else self.flow.signature.secret_result,
            **asked,
        )

    def _inputs(self, tracer: Tracer, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, Any]:
        signature, name = self.flow.signature, self.flow.name
        what = "argument `{}` of flow `{}`".format
        if signature is None:
            if args:
                refuse(f"flow `{name}` was made from a manifest and takes no positional arguments", "name them")
            return {one: encode(value, Any, tracer, what(one, name)) for one, value in kwargs.items()}
        return self.encoded(tracer, signature, self.bound(signature, args, kwargs))

    def bound(self, signature: Signature, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """The arguments by name."""
        try:
            return signature.bind(args, kwargs)
        except TypeError as exc:
            refuse(f"flow `{self.flow.name}`: {exc}", f"its parameters are `{signature.inputs}`")

    def encoded(self, tracer: Tracer, signature: Signature, given: dict[str, object]) -> dict[str, Any]:
        """As the inputs of a step."""
        what = f"argument `{{}}` of flow `{self.flow.name}`".format
        return {one: encode(value, signature.kind(one), tracer, what(one)) for one, value in given.items()}


class CallOfEach:
    """A flow as what `each` runs for an item."""

    def __init__(self, call: Call[Any, Any]) -> None:
        self.call = call
        self.type = call.flow.name
        if call.flow.signature is None:
            refuse(
                f"flow `{self.type}` was made from a manifest, and `each` does not know which input the item is",
                "call it in a `@block`, and name its inputs there",
            )
        self.signature = call.flow.signature

    def traced(self, tracer: Tracer, item: str, fixed: dict[str, Any]) -> StepDef:
        """Its step in the loop; the parameter `item` gets the loop's item."""
        tracer.call(self.call.flow)
        given = self.call.bound(self.signature, (), {**fixed, item: None})
        del given[item]
        return self.call.step({**self.call.encoded(tracer, self.signature, given), item: "@item()"})


def start_run(flow: "Flow[P, R] | Call[P, R]", /, *args: P.args, **kwargs: P.kwargs) -> str:
    """In a flow body: start a run of another flow and go on; the run's id. Nobody waits for its end, and it is not
    stopped with the run that started it.

    Raises:
        AuthoringError: outside a flow body, or the arguments do not fit.
    """
    call: object = flow.options() if hasattr(flow, "options") else flow
    if not isinstance(call, Call):
        refuse(
            "`start_run` got something that is not a flow", "give a flow; a step is called, or made one with `@flow`"
        )
    return cast(str, call.alone()(*args, **kwargs))
