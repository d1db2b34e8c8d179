"""Sleeps, and waits for a time, as they are written; and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Manifest, after, flow, sleep, step, until
from orchestrator.core.manifest import StepDef
from orchestrator.core.states import StepKind
from orchestrator.errors import AuthoringError, ManifestInvalid


class Order(BaseModel):
    ship_at: datetime
    pause: timedelta
    number: int
    express: bool = False


@step
def mail(number: int) -> bool:
    return True


@step
def ship(order: Order) -> None: ...


@flow
def shipping(order: Order) -> None:
    sent = mail(order.number)
    reminder = sleep("1d", after=[sent])
    with after(until(order.ship_at), sleep(order.pause, key="pause")):
        ship(order)
    mail.options(after=[reminder])(order.number)


def test_the_tracer_writes_what_a_person_would() -> None:
    steps = shipping.manifest.steps
    assert steps["sleep"] == StepDef(sleep="P1D", run_after={"mail": ("succeeded",)})  # type: ignore[dict-item]
    assert steps["until"] == StepDef(until="@triggerBody().order.ship_at")
    assert steps["pause"] == StepDef(sleep="@triggerBody().order.pause")
    assert steps["sleep"].kind is StepKind.WAIT
    assert set(steps["ship"].run_after) == {"until", "pause"}
    assert shipping.manifest.format == 2
    assert Manifest.from_json(shipping.manifest.to_json()) == shipping.manifest


def test_a_time_and_a_length_are_stored_in_one_form() -> None:
    """Whichever way they were given."""
    assert {StepDef(sleep=given).sleep for given in ("1d", "24h", "PT24H", 86_400, timedelta(days=1))} == {"P1D"}  # type: ignore[arg-type]
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert {StepDef(until=given).until for given in (noon, noon.isoformat(), "2026-01-31T12:00:00Z")} == {  # type: ignore[arg-type]
        "2026-01-31T12:00:00+00:00"
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda order: sleep("soon"), "`sleep` got 'soon': 'soon' is not a length of time"),
        (lambda order: sleep(0), "longer than nothing, and ten years at most"),
        (lambda order: sleep("3654d"), "longer than nothing, and ten years at most"),
        (lambda order: sleep(order), "which is of type Order. Fix: give a length of time"),
        (lambda order: until(order.number), "which is of type int. Fix: give a time"),
        (lambda order: until(datetime.fromisoformat("2026-01-01")), "a time has an offset"),
        (lambda order: until("2026-01-01"), "a time has an offset"),
        (lambda order: until("tomorrow"), "`until` got 'tomorrow', which is not a time"),
        (lambda order: sleep(order.express), "which is of type bool. Fix: give a length of time"),
        (lambda order: until(datetime.fromisoformat("9999-12-31T23:59:59-10:00")), "years 1 to 9999 of UTC"),
        (lambda order: sleep("1d", key="a b"), "`key` is 'a b'"),
    ],
)
def test_what_a_body_cannot_wait_for(body: Callable[[Any], object], said: str) -> None:
    with pytest.raises(AuthoringError, match=said.replace("(", r"\(")):

        @flow
        def waiting(order: Order) -> None:
            ship.options(after=[body(order)])(order)


@pytest.mark.parametrize("wait", [lambda: sleep("1d"), lambda: until("2026-01-01T00:00:00Z")])
def test_a_wait_belongs_into_a_flow(wait: Callable[[], object]) -> None:
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        wait()


def test_a_wait_that_nothing_comes_after_is_refused() -> None:
    with pytest.raises(AuthoringError, match="it would only hold the run open") as caught:

        @flow
        def waiting(order: Order) -> None:
            sleep("1d", after=[ship(order)])

    assert "steps.sleep" in str(caught.value) or "sleep" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sleep": "1d", "until": "2026-01-01T00:00:00Z"}, "steps.nap: waits by sleep and until"),
        ({"sleep": "1d", "retry": {"max_attempts": 2}}, "steps.nap.retry: a wait has no `retry`"),
        ({"sleep": "1d", "type": "t"}, "steps.nap.type: a wait has no `type`"),
        ({"sleep": "-1d"}, "steps.nap.sleep: '-1d' is not a length of time"),
        ({"sleep": "@steps('gone').output"}, "steps.nap.sleep: unknown step `gone`"),
        ({"until": "@triggerBdy().x"}, "steps.nap.until: unknown function `triggerBdy`"),
        ({"until": "tomorrow"}, "steps.nap.until: "),
        ({"until": "2026-01-01T00:00:00"}, "steps.nap.until: a time has an offset"),
    ],
)
def test_a_manifest_is_checked_with_its_place(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        Manifest(name="f", steps={"nap": fields, "b": {"type": "t", "run_after": {"nap": ["succeeded"]}}})
    assert any(str(problem).startswith(said) for problem in caught.value.problems), caught.value


def test_the_last_step_of_an_item_may_wait() -> None:
    """The item ends later; nothing else is held open by it."""
    Manifest(name="f", steps={"each": {"for_each": [1], "steps": {"nap": {"sleep": "1d"}}}})
