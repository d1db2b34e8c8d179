"""What one call of a step asks: `options(after=…, join=…, when=…, may_fail=…)`."""

from dataclasses import dataclass, replace
from typing import Any, Self

from orchestrator.authoring.conditions import Recording, truth
from orchestrator.authoring.edges import run_after
from orchestrator.authoring.placeholder import refuse
from orchestrator.core.expressions import render
from orchestrator.core.gates import Join
from orchestrator.core.states import StepStatus
from orchestrator.core.suggest import did_you_mean


@dataclass(frozen=True)
class Asked:
    """Of one call; what it does not say is as in every step."""

    after: tuple[object, ...] = ()
    join: Join = Join.ALL
    when: object = None
    may_fail: bool = False

    def with_(self, **given: Any) -> Self:
        """With those that are not None.

        Raises:
            AuthoringError: one of them is not what it has to be.
        """
        kept = {name: _CHECKS[name](value) for name, value in given.items() if value is not None}
        if "after" in kept:
            kept["after"] = (*self.after, *kept["after"])
        return replace(self, **kept)

    def fields(self, owner: Recording) -> dict[str, Any]:
        """Those of the manifest's step."""
        plain = () if self.join is Join.ALL_DONE else (StepStatus.SUCCEEDED,)
        return {
            "run_after": run_after(owner, self.after, plain),
            "join": self.join,
            "when": None if self.when is None else render(truth(owner, self.when)),
            "may_fail": self.may_fail,
        }


def _after(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        refuse("`after` is not a list", "write `after=[…]`")
    return tuple(value)


def _join(value: object) -> Join:
    if not isinstance(value, str) or value not in list(Join):
        refuse(f"`join` is {value!r:.60}", did_you_mean(str(value), Join))
    return Join(value)


def _may_fail(value: object) -> bool:
    if not isinstance(value, bool):
        refuse(f"`may_fail` is {value!r:.60}", "give True or False")
    return value


_CHECKS = {"after": _after, "join": _join, "when": lambda value: value, "may_fail": _may_fail}
