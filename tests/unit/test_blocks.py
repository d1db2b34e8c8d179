"""Blocks while a body is traced: what their entry steps are asked, and where values may be used."""

from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import (
    StepError,
    after,
    always,
    each,
    either,
    ended,
    failed,
    first_of,
    flow,
    header,
    on_failure,
    otherwise,
    require,
    skipped,
    step,
    succeeded,
    when,
)
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.states import StepStatus
from orchestrator.errors import AuthoringError


class Order(BaseModel):
    total: int = 0
    note: str | None = None
    big: bool = False


@step
def load() -> Order: ...  # type: ignore[empty-body]


@step
def a(value: Any = None) -> str: ...  # type: ignore[empty-body]


@step
def b(value: Any = None) -> str: ...  # type: ignore[empty-body]


@step
def c(value: Any = None) -> str: ...  # type: ignore[empty-body]


@step
def d(value: Any = None) -> str: ...  # type: ignore[empty-body]


@step
def told(problem: StepError) -> None: ...


BIG, VIP = "@triggerBody().order.total > 10", "@triggerBody().order.big"
OK = (StepStatus.SUCCEEDED,)


def steps(body: Any) -> dict[str, StepDef]:
    """Of a flow with this body, which reads back from its JSON."""

    def sample(order: Order) -> None:
        body(order)

    manifest = flow(sample).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    return manifest.steps


def whens(body: Any) -> dict[str, str | None]:
    return {key: one.when for key, one in steps(body).items()}


def edges(body: Any) -> dict[str, dict[str, str]]:
    return {key: {k: " ".join(v) for k, v in one.run_after.items()} for key, one in steps(body).items()}


# ---- conditions ----


def test_only_entry_steps_ask() -> None:
    """The rest of the block is skipped by its edges, and stays plain."""

    def body(order: Order) -> None:
        with when(order.total > 10):
            first = a()
            b(first)
            c(first)
            d()

    assert whens(body) == {"a": BIG, "b": None, "c": None, "d": BIG}


def test_what_a_skip_would_let_run_is_an_entry_too() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            first = a()
            b.options(after=[ended(first)])()
            c.options(after=[skipped(first)])()
            d.options(after=[failed(first)])()

    assert whens(body) == {"a": BIG, "b": BIG, "c": BIG, "d": None}


def test_the_other_branches() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            a()
        with otherwise(order.big):
            b()
        with otherwise(order.total == 3):
            c()
        with otherwise():
            d()

    three = "@triggerBody().order.total == 3"
    assert whens(body) == {
        "a": BIG,
        "b": f"!({BIG}) && {VIP}",
        "c": f"!({BIG} || {VIP}) && {three}",
        "d": f"!({BIG} || {VIP} || {three})",
    }


def test_nested_blocks_are_all_asked_and_an_inner_edge_is_enough() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            first = a()
            with when(order.big):
                b()
                c(first)
        with otherwise(), when(order.big):
            d.options(when=order.total == 0)()

    assert whens(body) == {
        "a": BIG,
        "b": f"{BIG} && {VIP}",
        "c": VIP,
        "d": f"!({BIG}) && {VIP} && @triggerBody().order.total == 0",
    }


def test_a_condition_on_a_result_of_the_block_leads_into_it() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            found = load()
            with when(found.big):
                a()

    assert whens(body) == {"load": BIG, "a": "@steps('load').output.big"}


def test_a_loop_in_a_block_asks_as_a_whole() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            each(a, [1, 2])

    assert whens(body) == {"a": BIG}
    assert steps(body)["a"].steps["a"].when is None


# ---- merges ----


def test_a_step_and_what_stands_in_for_its_failure_race() -> None:
    def body(order: Order) -> None:
        paid = a()
        with on_failure(paid):
            gone = b()
        sent = c(paid)
        d(first_of(paid, gone))
        d(either(sent, gone))

    made = steps(body)
    assert made["first_of"].run_after == {"a": OK, "b": OK}
    assert made["either"].run_after == {"c": OK, "b": OK}


def test_either_takes_whichever_branch_ran() -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            first = a()
        with otherwise():
            other = b()
        c(either(first, other))

    made = steps(body)
    assert made["either"].value == "@steps('a').output ?? @steps('b').output"
    assert (made["either"].join, made["either"].run_after) == ("none_failed", {"a": OK, "b": OK})
    assert made["c"].run_after == {"either": OK}
    assert made["c"].when is None


@pytest.mark.parametrize(
    ("default", "text"),
    [
        ("none", "'none'"),
        ("@x", "'@x'"),
        (3, "3"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        (lambda order: order.note, "@triggerBody().order.note"),
        (lambda order: header("x"), "@triggerHeaders().x"),
    ],
)
def test_either_with_a_default_runs_when_no_branch_did(default: Any, text: str) -> None:
    def body(order: Order) -> None:
        with when(order.total > 10):
            first = a()
        c(either(first, default(order) if callable(default) else default))

    made = steps(body)["either"]
    assert made.value == f"@steps('a').output ?? {text}"
    assert (made.join, made.run_after) == ("all", {"a": (StepStatus.SKIPPED, StepStatus.SUCCEEDED)})


def test_a_part_of_a_result_and_a_merge_can_be_merged() -> None:
    def body(order: Order) -> None:
        found = load()
        with when(order.big):
            first = a()
        d(either(either(first, found.note), "x"))

    made = steps(body)
    assert made["either"].value == "@steps('a').output ?? @steps('load').output.note"
    assert made["either_2"].value == "@steps('either').output ?? 'x'"


def test_a_merge_in_a_block_is_never_asked_itself() -> None:
    """Of what is made in the block, it is skipped with it; otherwise what reads it is asked."""

    def body(order: Order) -> None:
        outside = a(1)
        with when(order.total > 10):
            with when(order.big):
                first = b()
            with otherwise():
                second = c()
            d(either(first, second))
            d(either(first, outside))

    made = whens(body)
    assert (made["either"], made["d"]) == (None, None)
    assert (made["either_2"], made["d_2"]) == (None, BIG)


def test_the_first_of_several() -> None:
    def body(order: Order) -> None:
        c(first_of(a(), b()))
        d(first_of(a(1), b(2), rest="leave"))

    made = steps(body)
    assert (made["first_of"].join, made["first_of"].rest) == ("any", "withdraw")
    assert made["first_of"].value == "@steps('a').output ?? @steps('b').output"
    assert made["first_of_2"].rest == "leave"


def test_a_requirement() -> None:
    def body(order: Order) -> None:
        found = load()
        checked = require(found.total > 0, "the order is empty")
        a.options(after=[checked])()
        with after(checked):
            b()

    made = steps(body)
    assert (made["require"].require, made["require"].message) == (
        "@steps('load').output.total > 0",
        "the order is empty",
    )
    assert made["require"].run_after == {"load": OK}
    assert made["a"].run_after == made["b"].run_after == {"require": OK}


# ---- ends ----

ANY = "cancelled failed skipped succeeded"


def test_the_error_of_any_of_several_is_called_by_their_names() -> None:
    """The step that picks it is ours: nobody wrote a `failure`."""

    def body(order: Order) -> None:
        with on_failure(a(), b()) as problem:
            c(problem + 1)  # type: ignore[operator]

    with pytest.raises(AuthoringError, match="the error of step `a` or `b` was used in a calculation"):
        flow(body)


def _handled(order: Order) -> str:
    paid = a()
    with on_failure(paid):
        b()
    return paid


def _behind_a_handled_one(order: Order) -> str:
    paid = a()
    with on_failure(paid):
        b()
    return d(paid)


def _handled_by_hand(order: Order) -> str:
    paid = a()
    b.options(after=[failed(paid)])()
    return paid


def _one_of_several(order: Order) -> str:
    booked = a()
    paid = b(booked)
    with on_failure(booked, paid):
        c()
    return paid


def _may_fail(order: Order) -> str:
    return a.options(may_fail=True)()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (_handled, "step `a` fails, which is handled by step `b`"),
        (_behind_a_handled_one, "step `a` fails, which is handled by step `b`"),
        (_handled_by_hand, "step `a` fails, which is handled by step `b`"),
        (_one_of_several, "step `b` fails, which is handled"),
        (_may_fail, "step `a` may fail"),
    ],
)
def test_a_result_that_a_handled_failure_leaves_out_is_annotated_so(body: Any, why: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        flow(body)
    assert f"flow `{body.__name__}` returns null when {why}, and its annotation has no `None`. Fix: annotate" in str(
        caught.value
    )
    for kind in (str | None, Any, object):
        body.__annotations__["return"] = kind
        assert flow(body).manifest.output is not None


def test_what_stands_in_for_a_failure_leaves_no_null() -> None:
    @flow
    def shop(order: Order) -> str:
        paid = a()
        with on_failure(paid):
            other = b()
        return d(first_of(paid, other))

    @flow
    def refunds(order: Order) -> str:
        paid, sent = a(), b()
        with on_failure(paid):
            c()
        return sent

    assert (shop.manifest.output, refunds.manifest.output) == ("@steps('d').output", "@steps('b').output")


def test_a_block_for_a_failure_gives_the_error() -> None:
    def body(order: Order) -> None:
        paid = a()
        with on_failure(paid) as problem:
            told(problem)
            b(problem.message)
            c()

    assert edges(body) == {"a": {}, "told": {"a": "failed"}, "b": {"a": "failed"}, "c": {"a": "failed"}}
    assert steps(body)["b"].inputs == {"value": "@steps('a').error.message"}


def test_a_block_for_the_failure_of_any_of_several() -> None:
    """A step of its own knows the first of them: edges of one join would mix with those of the data."""

    def body(order: Order) -> None:
        loaded = load()
        with on_failure(a(), b()) as problem:
            told(problem)
            c(loaded)

    made = steps(body)
    assert made["failure"].value == "@steps('a').error ?? @steps('b').error"
    assert (made["failure"].join, made["failure"].rest) == ("any", "leave")
    assert edges(body)["failure"] == {"a": "failed", "b": "failed"}
    assert edges(body)["c"] == {"failure": "succeeded", "load": "succeeded"}
    assert made["told"].inputs == {"problem": "@steps('failure').output"}


def test_a_block_for_any_end_and_one_for_order() -> None:
    def body(order: Order) -> None:
        paid, sent = a(), b()
        with always(paid, sent):
            first = c()
            d(first)
        with after(paid, failed(sent)):
            c(1)

    assert edges(body)["c"] == {"a": ANY, "b": ANY}
    assert edges(body)["d"] == {"c": "succeeded"}
    assert edges(body)["c_2"] == {"a": "succeeded", "b": "failed"}


def test_an_end_inside_of_a_condition() -> None:
    def body(order: Order) -> None:
        with when(order.big):
            paid = a()
            with on_failure(paid):
                b()
            with always(paid):
                c()

    assert whens(body) == {"a": VIP, "b": None, "c": VIP}


def test_options_of_one_call() -> None:
    def body(order: Order) -> None:
        one, two = a(), b()
        c.options(after=[succeeded(one), ended(two), "a"], join="some", may_fail=True)()
        d.options(after=[one, two], join="all_done")()
        d.options(after=[failed(one), skipped(one)], key="handler")()

    made = steps(body)
    assert edges(body)["c"] == {"a": "succeeded", "b": ANY}
    assert (made["c"].join, made["c"].may_fail) == ("some", True)
    assert edges(body)["d"] == {"a": ANY, "b": ANY}
    assert edges(body)["handler"] == {"a": "failed skipped"}


# ---- refusals ----


def _used_outside(order: Order) -> None:
    with when(order.total > 10):
        first = a()
    b(first)


def _read_in_the_other(order: Order) -> None:
    with when(order.total > 10):
        first = a()
    with otherwise():
        b(first)


def _asked_outside(order: Order) -> None:
    with when(order.total > 10):
        found = load()
    b.options(when=found.big)()


def _of_a_failure(order: Order) -> None:
    with on_failure(a()):
        first = b()
    c(first)


def _either_with_what_failed(order: Order) -> None:
    paid = a()
    with on_failure(paid):
        gone = b()
    c(either(paid, gone))


def _either_with_one_of_what_failed(order: Order) -> None:
    booked = a()
    paid = b(booked)
    with on_failure(booked, paid):
        gone = d(c())
    either(gone, paid, "x")


def _empty(order: Order) -> None:
    with when(order.total > 10):
        pass


def _alone(order: Order) -> None:
    with otherwise():
        a()


def _not_right_after(order: Order) -> None:
    with when(order.total > 10):
        a()
    b()
    with otherwise():
        c()


def _another_between(order: Order) -> None:
    with when(order.total > 10):
        a()
    with always(b()):
        c()
    with otherwise():
        d()


def _one_level_up(order: Order) -> None:
    with when(order.total > 10):
        a()
        with otherwise():
            c()


def _after_the_last(order: Order) -> None:
    with when(order.total > 10):
        a()
    with otherwise():
        b()
    with otherwise():
        c()


def _error_elsewhere(order: Order) -> None:
    with on_failure(a()) as problem:
        told(problem)
    c(problem.message)


def _value_of_what_failed(order: Order) -> None:
    paid = a()
    with on_failure(paid):
        b(paid)


def _value_of_any_end(order: Order) -> None:
    paid = a()
    with always(paid):
        b(paid)


def _race_in_a_block(order: Order) -> None:
    paid, sent = a(), b()
    with always(paid):
        c.options(after=[sent], join="any")()


def _race_that_waits_for_its_condition(order: Order) -> None:
    found, one, two = load(), a(), b()
    with when(found.big):
        c.options(after=[one, two], join="some")()


@pytest.mark.parametrize(
    ("body", "says", "fix"),
    [
        (_used_outside, f"the result of step `a` exists only when `{BIG}`", "write `either(a, …)`"),
        (
            _read_in_the_other,
            f"the result of step `a` exists only when `{BIG}`",
            "move what needs it into the block",
        ),
        (_asked_outside, "the result of step `load` exists only when", "either(load, …)"),
        (_of_a_failure, "the result of step `b` exists only when `a` failed", "write `first_of(a, b)`"),
        (
            _either_with_what_failed,
            "`either` takes `b`, which exists only when `a` failed, and `a` itself",
            "first_of(a, b)",
        ),
        (
            _either_with_one_of_what_failed,
            "`either` takes `d`, which exists only when `a` or `b` failed, and `b` itself",
            "first_of(b, d)",
        ),
        (_empty, "`with when(…)` holds no step", "call a step in it"),
        (_alone, "`otherwise` has no `when` right before it", "behind the block of `when`"),
        (_not_right_after, "`otherwise` has no `when` right before it", "behind the block of `when`"),
        (_another_between, "`otherwise` has no `when` right before it", "behind the block of `when`"),
        (_one_level_up, "`otherwise` has no `when` right before it", "at the same depth"),
        (_after_the_last, "`otherwise` follows one without a condition", "remove this one"),
        (_error_elsewhere, "the error of step `a` exists only when `a` failed", "`with on_failure(a) as problem:`"),
        (_value_of_what_failed, "the result of step `a` is read where it is failed", "as problem:"),
        (_value_of_any_end, "the result of step `a` is read where it is cancelled or failed", "where it succeeded"),
        (_race_in_a_block, '`join="any"` is asked for in `always`', "outside of the block"),
        (lambda o: either(a()), "`either` got one value", "at least two"),
        (lambda o: either(a(), o.total, b()), "only the last one may be a plain value", "results of steps"),
        (lambda o: either(o.total, a()), "`either` got the flow's input `order`.total", "results of steps"),
        (lambda o: either(a(), ["x"]), "the last value of `either` is a list", "return it from a step"),
        (lambda o: first_of(a()), "`first_of` got one value", "at least two"),
        (lambda o: first_of(a(), "x"), "`first_of` got 'x', which is not the result of a step.", "results of steps"),
        (lambda o: first_of(a(), b(), rest="kill"), "`first_of` got `rest='kill'`", '"withdraw" or "leave"'),
        (lambda o: require(o.total, "x"), "is of type int, which is not a condition", "compare it"),
        (lambda o: require(o.total > 1, " "), "`require` got no message", "say what is wrong"),
        (lambda o: on_failure(), "`on_failure` got no result of a step", "with on_failure(charged):"),
        (lambda o: always(), "`always` got no result of a step", "with always(charged):"),
        (lambda o: after(), "`after` got no result of a step", "with after(charged):"),
        (lambda o: always(o), "which is not a step of this flow", "the result of a step"),
        (lambda o: on_failure(3), "`on_failure` holds an int", "on_failure(charged)"),
        (lambda o: a.options(after=3)(), "`after` is not a list", "`after=[…]`"),
        (lambda o: a.options(join="most")(), "`join` is 'most'", "use one of `all`, `all_done`, `any`"),
        (lambda o: a.options(may_fail=1)(), "`may_fail` is 1", "True or False"),
        (lambda o: a.options(on_failure=1)(), "no option `on_failure`", "after=[failed(x)]"),
    ],
)
def test_misuse_says_what_is_wrong_and_what_to_write(body: Any, says: str, fix: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        steps(body)
    assert says in caught.value.message
    assert fix in caught.value.message
    assert caught.value.file == __file__


def test_edges_of_a_condition_do_not_mix_with_a_race() -> None:
    with pytest.raises(AuthoringError, match='`join="some"` is asked for in `when`'):
        steps(_race_that_waits_for_its_condition)


def test_a_result_of_a_block_is_no_result_of_the_flow() -> None:
    def sample(order: Order) -> str:
        with when(order.total > 10):
            first = a()
        return first  # noqa: RET504

    with pytest.raises(AuthoringError, match="the result of step `a` exists only when"):
        flow(sample)


def test_statuses_on_edges_of_all_done_are_refused() -> None:
    def sample() -> None:
        b.options(after=[succeeded(a())], join="all_done")()

    with pytest.raises(AuthoringError, match="`all_done` takes any end, and this names some"):
        flow(sample)


def test_a_with_that_is_no_block_of_a_flow_is_still_refused() -> None:
    def sample(order: Order) -> None:
        with when(order.big), open("x"):
            a()

    with pytest.raises(AuthoringError, match=r"holds a `with`.*only `when`, `otherwise`"):
        flow(sample)


@pytest.mark.parametrize(
    "call", [lambda: either(1, 2), lambda: first_of(1, 2), lambda: require(True, "x"), always, after]
)
def test_outside_of_a_body_there_are_no_blocks(call: Any) -> None:
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        call()


def test_a_call_in_a_block_that_is_never_reached_is_still_noticed() -> None:
    flag = False

    def sample(order: Order) -> None:
        with when(order.big):
            a()
            if flag:
                b()

    with pytest.raises(AuthoringError, match="calls `b` here, and no step was recorded"):
        flow(sample)
