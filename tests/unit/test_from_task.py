"""What of a Celery task a step has, and what is refused."""

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from celery import Celery, Task
from pydantic import BaseModel

from orchestrator import AuthoringError, Context, Step, step
from orchestrator.errors import UsageError


class Loaf(BaseModel):
    grams: int


class Wrapped(Task):  # type: ignore[misc]
    """As an application does that opens something around each task."""

    around = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.around = True
        return super().__call__(*args, **kwargs)


@pytest.fixture
def app() -> Iterator[Celery]:
    """Whose tasks are its own: Celery gives shared ones to each app that is made later in this process."""
    with Celery("bakery", broker="memory://", set_as_current=False) as made:
        made.task = partial(made.task, shared=False)
        yield made


def bake(kind: str, pieces: int = 1) -> list[str]:
    """Bakes.

    At night.
    """
    return [kind] * pieces


def knead(self: Any, flour, water: int = 2) -> Any:  # type: ignore[no-untyped-def]
    return flour, water, self.request.id, self.request.retries


def attempt(one: Step[..., Any], number: int = 1, /, **given: Any) -> Any:
    """One attempt, as a worker makes it."""
    assert one.context_param is not None
    return one.fn(**{**one.decode_inputs(one.signature.arguments.dumps(given)), one.context_param: _context(number)})


def _context(number: int) -> Context:
    return Context(run_id="r1", step_key="s", attempt=number)


# ---- what it takes over ----


def test_the_function_gives_parameters_result_and_name(app: Celery) -> None:
    made = step.from_task(app.task(bake))
    assert (made.type, str(made.signature.inputs)) == ("bake", "(kind: str, pieces: int = 1) -> list[str]")
    assert (made.settings.description, made.settings.retries) == ("Bakes.", 0)
    assert made.place.startswith(f"{__file__}:")
    assert made("bun", 2) == ["bun", "bun"]


def test_self_is_no_parameter_and_what_has_no_type_is_plain_json(app: Celery) -> None:
    made = step.from_task(app.task(knead, bind=True))
    assert list(made.signature.inputs.parameters) == ["flour", "water"]
    assert made.signature.kind("flour") is Any
    assert made.settings.retries == 3
    assert attempt(made, 3, flour={"rye": 1}) == ({"rye": 1}, 2, "r1:s", 2)


@pytest.mark.parametrize(
    ("of_task", "given", "expected"),
    [
        ({"max_retries": 7}, {}, {"retries": 0}),
        ({"max_retries": 7, "autoretry_for": (OSError,)}, {}, {"retries": 7}),
        ({"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 9}}, {}, {"retries": 9}),
        ({"max_retries": None, "autoretry_for": (OSError,)}, {"retries": 99}, {"retries": 99}),
        ({"time_limit": 30}, {"priority": 2}, {"timeout": timedelta(seconds=30), "priority": 2}),
        ({"time_limit": 30, "soft_time_limit": 20}, {"timeout": "1m"}, {"timeout": timedelta(minutes=1)}),
        ({"expires": 60}, {}, {"queue_timeout": timedelta(minutes=1)}),
        ({"expires": datetime(2030, 1, 1, tzinfo=UTC)}, {"queue_timeout": "1h"}, {"queue_timeout": timedelta(hours=1)}),
        ({"rate_limit": "1/s"}, {"ignoring": ["rate_limit"], "queue": "oven"}, {"queue": "oven"}),
        ({"on_failure": print}, {"ignoring": "on_failure", "description": "It."}, {"description": "It."}),
        ({"ignore_result": True, "acks_late": True, "throws": (KeyError,)}, {}, {"retries": 0}),
    ],
)
def test_options_are_taken_over_or_replaced(
    app: Celery, of_task: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    settings = step.from_task(app.task(bake, **of_task), **given).settings
    assert {name: getattr(settings, name) for name in expected} == expected


def test_the_name_is_the_last_part_of_the_tasks(app: Celery) -> None:
    assert step.from_task(app.task(bake, name="shop.bread.bake-it")).type == "bake-it"
    assert step.from_task(app.task(bake, name="shop: bake"), key="oven").type == "oven"


def test_models_arrive_as_they_do_in_celery(app: Celery) -> None:
    def halve(loaf: Loaf) -> Loaf:
        return Loaf(grams=loaf.grams // 2)

    made = step.from_task(app.task(halve, pydantic=True))
    assert made.encode_output(attempt(made, loaf=Loaf(grams=500))) == '{"grams":250}'


def test_a_task_that_is_a_class_and_one_with_a_call_of_its_own(app: Celery) -> None:
    class Count(Wrapped):
        name = "shop.count"

        def run(self, upto: int) -> int:
            return upto + self.around

    assert attempt(step.from_task(app.register_task(Count())), upto=3) == 4


# ---- retries ----


def asking(app: Celery, **how: Any) -> Step[..., Any]:
    def ask(self: Any, number: int) -> None:
        raise self.retry(**how)

    return step.from_task(app.task(ask, bind=True))


@pytest.mark.parametrize(
    ("how", "delay", "said"),
    [
        ({"countdown": 7}, 7.0, "task tests.unit.test_from_task.ask asked to be tried again"),
        ({"countdown": 0.5, "exc": ValueError("no flour")}, 0.5, "ValueError: no flour"),
        ({"eta": datetime(2020, 1, 1, tzinfo=UTC)}, 0.0, "task tests.unit.test_from_task.ask asked to be tried again"),
        ({"eta": datetime(2020, 1, 1)}, 0.0, "task tests.unit.test_from_task.ask asked to be tried again"),  # noqa: DTZ001
        ({}, 180.0, "task tests.unit.test_from_task.ask asked to be tried again"),
        ({"countdown": 7, "args": (), "kwargs": {"number": 1}}, 7.0, "task tests.unit.test_from_task.ask asked"),
    ],
)
def test_a_retry_is_kept_for_the_ledger_and_sends_nothing(
    app: Celery, how: dict[str, Any], delay: float, said: str
) -> None:
    from orchestrator import RetryAfter

    made = asking(app, **how)
    with pytest.raises(RetryAfter, match=said) as found:
        attempt(made, number=1)
    assert found.value.delay.total_seconds() == delay
    assert isinstance(found.value, made.retry_on)


def test_after_the_last_retry_the_error_is_the_tasks_own(app: Celery) -> None:
    made = asking(app, exc=ValueError("no flour"))
    with pytest.raises(ValueError, match="no flour") as found:
        attempt(made, 4, number=1)
    assert not isinstance(found.value, made.retry_on)


def test_celerys_own_back_off_is_kept(app: Celery) -> None:
    from orchestrator import RetryAfter

    def fetch(url: str) -> str:
        raise ConnectionError(url)

    made = step.from_task(app.task(fetch, autoretry_for=(OSError,), retry_backoff=3, retry_jitter=False))
    pauses = []
    for number in (1, 2, 3):
        with pytest.raises(RetryAfter, match="ConnectionError: u") as found:
            attempt(made, number, url="u")
        pauses.append(found.value.delay.total_seconds())
    assert pauses == [3, 6, 12]


def test_other_arguments_are_refused(app: Celery) -> None:
    with pytest.raises(UsageError, match="asked to be tried again with other arguments"):
        attempt(asking(app, kwargs={"number": 2}), number=1)


def test_the_apps_of_the_thread_are_put_back(app: Celery) -> None:
    from celery import current_app

    def where(self: Any) -> str:
        return str(current_app.main)

    before = current_app.main
    made = step.from_task(app.task(where, bind=True))
    assert (attempt(made), current_app.main) == ("bakery", before)
    assert made.fn.__wrapped__.__name__ == "where"


# ---- what is refused ----


def star(*kinds: str) -> None: ...
async def slow(kind: str) -> None: ...


@pytest.mark.parametrize(
    ("fn", "of_task", "given", "said"),
    [
        (bake, {"rate_limit": "1/s"}, {}, r"`rate_limit`='1/s', which holds for one worker.*ignoring=\['rate_limit'\]"),
        (bake, {"soft_time_limit": 3}, {}, "`soft_time_limit`=3, an exception that a step does not get.*`timeout=`"),
        (bake, {"expires": datetime(2030, 1, 1, tzinfo=UTC)}, {}, "`expires`=.*a point in time.*`queue_timeout=`"),
        (bake, {"max_retries": None, "autoretry_for": (OSError,)}, {}, "never stops. Fix: give `retries=`"),
        (knead, {"max_retries": None, "bind": True}, {}, "never stops. Fix: give `retries=`"),
        (knead, {"max_retries": 1000, "bind": True}, {}, "give a whole number from 0 to 999"),
        (bake, {"after_return": print}, {}, "`after_return` of its own, which only Celery's worker calls"),
        (bake, {"name": "bake it"}, {}, "a name that no step can have. Fix: give `key=`"),
        (bake, {}, {"ignoring": ["ratelimit"]}, "told to ignore `ratelimit`. Fix: name some of after_return"),
        (star, {}, {}, r"takes `\*kinds`. Fix: name each parameter"),
        (slow, {}, {}, "is `async def`, which Celery does not run either"),
    ],
)
def test_what_a_step_cannot_do_is_refused(
    app: Celery, fn: Callable[..., Any], of_task: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(AuthoringError, match=said) as found:
        step.from_task(app.task(fn, **of_task), **given)
    assert found.value.message.startswith(f"{__file__}:{inspect.getsourcelines(fn)[1]}: task `")


@pytest.mark.parametrize("given", [bake, "bakery.bake", None])
def test_something_else_is_not_a_task(given: Any) -> None:
    with pytest.raises(AuthoringError, match=r"test_from_task.py:\d+: .* is not a Celery task. Fix: "):
        step.from_task(given)
