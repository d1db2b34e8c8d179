"""`@block`: several steps as one, run on each item of a list by `each`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast

from pydantic import JsonValue

from orchestrator.authoring.literals import encode
from orchestrator.authoring.placeholder import Node, Placeholder, refuse
from orchestrator.authoring.signature import Signature
from orchestrator.authoring.tracer import Tracer
from orchestrator.core.expressions import Ref
from orchestrator.core.manifest import StepDef

P = ParamSpec("P")
R = TypeVar("R")


class Graph(Generic[P, R]):
    """A function that calls steps. Made by `@block`; called, it is that function."""

    def __init__(self, fn: Callable[P, R]) -> None:
        """
        Raises:
            AuthoringError: the function cannot be a block.
        """
        self.signature = Signature(fn, f"block `{getattr(fn, '__name__', fn)}`")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.type: str = fn.__name__
        if inspect.iscoroutinefunction(fn):
            self.signature.fail("is `async def`", "write `def`: its body is only traced, never run")
        if self.signature.context_param is not None:
            self.signature.fail("takes a Context", "take it in a step")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<block {self.type} at {self.signature.place}>"

    def traced(
        self, tracer: Tracer, loop: str, item: str, fixed: Mapping[str, object]
    ) -> tuple[dict[str, StepDef], JsonValue]:
        """Its steps, for an item of this loop, and what each item gives.

        Raises:
            AuthoringError: it calls no step, or its result cannot be stored.
        """
        what = f"the item of loop `{loop}`"
        value = Placeholder(Node(Ref("item", loop=loop), self.signature.kind(item), tracer, what))
        with tracer.inside(loop) as steps:
            result = cast(Any, self.fn)(**fixed, **{item: value})
            output = encode(result, self.signature.returns, tracer, f"the result of block `{self.type}`")
        if not steps:
            refuse(f"block `{self.type}` calls no step", "call one in it, or use the list as it is")
        return steps, output


def block(fn: Callable[P, R], /) -> Graph[P, R]:
    """Several steps that are run on each item of a list: `each(fulfil, order.lines)`. Its body is traced, like a
    flow's; outside of `each` it is a plain function.

    Raises:
        AuthoringError: the function cannot be a block.
    """
    return Graph(fn)
