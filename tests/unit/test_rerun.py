"""What a run made of another one keeps of it."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.core.rerun import Before, Rerun, changed_fields, check_step, rerun
from orchestrator.core.states import StepStatus
from orchestrator.errors import OrchestratorError, StepNotFound, UsageError
from tests.support.factories import after, call, loop

DONE, FAILED, SKIPPED = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED
SHOP = {
    "price": call("price", inputs={"order": "@triggerBody().order"}),
    "stock": call("stock"),
    "charge": after("price", "stock"),
    "refund": call(run_after={"charge": ["failed"]}),
    "ship": after("charge", inputs={"to": "@triggerBody().to"}),
    "mail": after("ship"),
}


def plan(steps: Mapping[str, Any]) -> Plan:
    return Plan.of(Manifest(name="shop", steps=dict(steps)))


def kept(
    steps: Mapping[str, Any],
    states: Mapping[str, StepStatus],
    step: str | None,
    *,
    target: Mapping[str, Any] | None = None,
    fields: tuple[str, ...] = (),
) -> Rerun:
    return rerun(Before(plan(steps), states), plan(steps if target is None else target), step, fields)


ALL = dict.fromkeys(SHOP, DONE) | {"refund": SKIPPED}


def test_what_is_not_the_step_nor_after_it_is_kept() -> None:
    """A step that was skipped stays so: nothing that it was skipped for is another."""
    found = kept(SHOP, ALL, "ship")
    assert found == Rerun(kept=("price", "stock", "charge"), settled=("refund",), again=("ship", "mail"))
    assert kept(SHOP, ALL, "price") == Rerun(kept=("stock",), again=("price", "charge", "refund", "ship", "mail"))


def test_without_a_step_nothing_is_kept() -> None:
    assert kept(SHOP, ALL, None) == Rerun(again=tuple(SHOP))


def test_only_what_succeeded_is_kept_and_only_if_all_before_it_is() -> None:
    """A step whose failure was handled runs again, and so does what ran because of it."""
    states = ALL | {"charge": FAILED, "refund": DONE, "ship": SKIPPED, "mail": SKIPPED}
    assert kept(SHOP, states, "mail") == Rerun(kept=("price", "stock"), again=("charge", "refund", "ship", "mail"))


def test_a_skip_whose_reason_does_not_stand_is_decided_anew() -> None:
    """What was skipped, because what is before it had failed, may run now."""
    steps = {"a": call(), "b": after("a"), "c": after("b"), "last": call()}
    states = {"a": FAILED, "b": SKIPPED, "c": SKIPPED, "last": DONE}
    assert kept(steps, states, "last") == Rerun(again=("a", "b", "c", "last"))


def test_a_step_that_is_another_now_is_not_kept() -> None:
    """By its key, its type and its kind; nor is what is after it."""
    target = {**SHOP, "price": call("other"), "gift": call()}
    del target["mail"]
    found = kept(SHOP, ALL, "ship", target=target)
    assert found == Rerun(
        kept=("stock",), again=("price", "charge", "refund", "ship"), new=("gift",), dropped=("mail",)
    )
    looped = {**SHOP, "stock": loop([1], body={"type": "stock"})}
    assert kept(SHOP, ALL, "ship", target=looped).kept == ("price",)


def test_a_loop_is_kept_whole() -> None:
    steps = {"each": loop("@triggerBody().items"), "sum": after("each")}
    assert kept(steps, {"each": DONE, "sum": FAILED}, "sum") == Rerun(kept=("each",), again=("sum",))
    assert kept(steps, {"each": FAILED, "sum": SKIPPED}, "sum") == Rerun(again=("each", "sum"))


@pytest.mark.parametrize(("fields", "changed"), [((), ()), (("order",), ("price",)), (("to",), ())])
def test_kept_steps_that_read_another_input_are_named(fields: tuple[str, ...], changed: tuple[str, ...]) -> None:
    assert kept(SHOP, ALL, "ship", fields=fields).changed == changed


def test_a_step_that_reads_the_whole_input_reads_what_changed() -> None:
    """Also inside of a loop."""
    steps = {
        "all": call(inputs={"x": "@triggerBody()"}),
        "each": loop([1], body={"inputs": {"y": "@triggerBody().y"}}),
        "last": after("all", "each"),
    }
    states = dict.fromkeys(steps, DONE)
    assert kept(steps, states, "last", fields=("y",)).changed == ("all", "each")
    assert kept(steps, states, "last", fields=("z",)).changed == ("all",)


def test_a_skip_that_read_what_changed_is_decided_anew() -> None:
    steps = {
        "a": call(),
        "b": call(run_after={"a": ["failed"]}, inputs={"x": "@triggerBody().x"}),
        "last": call(run_after={"a": ["succeeded"]}),
    }
    states = {"a": DONE, "b": SKIPPED, "last": DONE}
    assert kept(steps, states, "last").settled == ("b",)
    assert kept(steps, states, "last", fields=("x",)) == Rerun(kept=("a",), again=("b", "last"))


def test_changed_fields() -> None:
    assert changed_fields({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": None}) == {"b", "c", "d"}


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        ("each.3.do", UsageError, "each.3.do is inside the loop each.*Fix: run it again from each"),
        ("do", UsageError, "do is the body of the loop each.*Fix: run it again from each"),
        ("eahc", StepNotFound, "no step 'eahc'.*did you mean `each`"),
        ("x.1.y", StepNotFound, r"no step 'x\.1\.y'"),
    ],
)
def test_what_a_run_cannot_be_run_again_from(step: str, error: type[OrchestratorError], said: str) -> None:
    with pytest.raises(error, match=said):
        check_step(plan({"each": loop([1]), "sum": after("each")}), step)
