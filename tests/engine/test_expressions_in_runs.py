"""Expressions where runs meet them: in inputs, in lists, in the output; and what the second format means."""

from typing import Any

import pytest

from orchestrator import Flow, Manifest, RunFailed, step
from orchestrator.core.facts import StartRequest
from orchestrator.engine.runs import start_run
from orchestrator.errors import ManifestInvalid, OutputInvalid
from orchestrator.testing import SimRun, World


class Broken(Exception):
    """What a step raises that fails."""


@step
def give(value: Any) -> Any:
    return value


@step(retries=2, backoff=["1s"])
def fail(value: Any = None) -> Any:
    raise Broken("the bank is closed")


@step
def note(status: str | None = None, error: Any = None, value: Any = None) -> Any:
    return {"status": status, "error": error, "value": value}


def flow_of(steps: dict[str, Any], **fields: Any) -> Flow[..., Any]:
    return Flow.from_manifest(Manifest(name="told", steps=steps, **fields), [give, fail, note])


def one(world: World, inputs: dict[str, Any], **given: Any) -> Any:
    """What a step is given whose inputs are these."""
    run = world.start(flow_of({"x": {"type": "give", "inputs": {"value": inputs}}}), given)
    return run.output("x")


def test_operators_in_inputs(world: World) -> None:
    inputs = {
        "either": "@triggerBody().none ?? 'nobody'",
        "rich": "@triggerBody().amount > 1000 && !contains(@triggerBody().tags, 'vip')",
        "plain": "@triggerBody().amount",
    }
    assert one(world, inputs, amount=2000, tags=["new"]) == {"either": "nobody", "rich": True, "plain": 2000}
    assert one(world, inputs, amount=2000, tags=["vip"])["rich"] is False


def test_how_a_step_ended_can_be_read_however_it_ended(world: World) -> None:
    """The edge takes any end; it handles no failure, so the run fails all the same."""
    inputs = {"status": "@steps('charge').status", "error": "@steps('charge').error"}
    told = flow_of({"charge": {"type": "fail"}, "audit": {"type": "note", "inputs": inputs}})
    run = world.finish(world.start(told))
    error = {"step": "charge", "type": f"{__name__}.Broken", "message": "the bank is closed"}
    assert run.output("audit") == {"status": "failed", "error": error, "value": None}
    assert run.status == "failed"
    with pytest.raises(RunFailed, match="failed at step charge"):
        run.result()


def test_of_a_step_that_succeeded_there_is_no_error(world: World) -> None:
    inputs = {"status": "@steps('a').status", "error": "@steps('a').error.message", "value": "@steps('a').output"}
    told = flow_of({"a": {"type": "give", "inputs": {"value": 1}}, "b": {"type": "note", "inputs": inputs}})
    run = world.start(told)
    assert run.output("b") == {"status": "succeeded", "error": None, "value": 1}
    assert run.status == "succeeded"


def test_whoever_reads_an_output_wants_one(world: World) -> None:
    inputs = {"status": "@steps('a').status", "value": "@steps('a').output"}
    run = world.finish(world.start(flow_of({"a": {"type": "fail"}, "b": {"type": "note", "inputs": inputs}})))
    assert run.skipped == {"b": "a failed, `run_after` asks for succeeded"}


def test_a_handler_that_asks_for_the_failure_handles_it(world: World) -> None:
    inputs = {"status": "@steps('a').status"}
    steps = {"a": {"type": "fail"}, "b": {"type": "note", "inputs": inputs, "run_after": {"a": ["failed"]}}}
    run = world.finish(world.start(flow_of(steps)))
    assert run.status == "succeeded"


def test_headers_that_prove_who_sent_the_request_are_not_kept(world: World) -> None:
    world.add(flow_of({"x": {"type": "give", "inputs": {"value": "@triggerHeaders()"}}}))
    headers = '{"X-Request-Id": "r1", "Authorization": "Bearer x", "Stripe-Signature": "y"}'
    (started,) = start_run.start(world.client.ledger, [StartRequest("told", "{}", headers=headers)])
    world.client.publish(started.dispatches)
    world.work()
    assert SimRun(world.client.run(started.run_id), world.work).output("x") == {"x-request-id": "r1"}


def test_headers_are_those_of_the_start(world: World) -> None:
    told = flow_of({"x": {"type": "give", "inputs": {"value": "@triggerHeaders()['X-Request-Id']"}}})
    run = world.start(told, headers={"X-Request-ID": "r1", "Authorization": "Bearer x"})
    assert run.output("x") == "r1"
    assert run.rerun().output("x") == "r1"


@pytest.mark.parametrize("told", [False, True], ids=["first format", "second format"])
def test_an_edge_that_takes_any_end_handles_a_failure_in_the_first_format_only(world: World, told: bool) -> None:
    inputs = {"value": "@triggerBody().x ?? 1"} if told else {"value": "@triggerBody().x"}
    steps = {
        "a": {"type": "fail"},
        "b": {"type": "note", "inputs": inputs, "run_after": {"a": ["succeeded", "failed"]}},
    }
    made = flow_of(steps)
    assert made.manifest.format == 1 + told
    run = world.finish(world.start(made))
    assert run.steps["b"] == "succeeded"
    assert run.status == ("failed" if told else "succeeded")


def test_an_end_that_is_skipped_counts_a_failure_once(world: World) -> None:
    """`c` takes any end of `a`, and is skipped for another reason."""
    steps = {
        "a": {"type": "fail"},
        "b": {"type": "fail"},
        "c": {
            "type": "note",
            "inputs": {"value": "@triggerBody().x ?? 1"},
            "run_after": {"a": ["succeeded", "failed"], "b": ["succeeded"]},
        },
    }
    run = world.finish(world.start(flow_of(steps)))
    assert run.status == "failed"
    assert run.skipped == {"c": "b failed, `run_after` asks for succeeded"}
    assert [event.type for event in run.events].count("run.failed") == 1


def test_what_cannot_be_evaluated_fails_the_step_and_is_not_tried_again(world: World) -> None:
    steps = {"x": {"type": "give", "inputs": {"value": "@triggerBody().n > 3"}, "retry": {"max_attempts": 5}}}
    run = world.start(flow_of(steps), {"n": "9"})
    assert run.status == "failed"
    (attempt,) = run.attempts("x")
    assert attempt.error_type == "orchestrator.errors.InputInvalid"
    assert "`@triggerBody().n > 3` cannot be evaluated: string '9' compared with number 3" in str(attempt.error_message)


def test_headers_are_read_without_case(world: World) -> None:
    world.add(flow_of({"x": {"type": "give", "inputs": {"value": "@triggerHeaders()['X-Request-Id'] ?? 'none'"}}}))
    for headers, value in (('{"x-request-id": "r1"}', "r1"), (None, "none")):
        (started,) = start_run.start(world.client.ledger, [StartRequest("told", "{}", headers=headers)])
        world.client.publish(started.dispatches)
        world.work()
        assert SimRun(world.client.run(started.run_id), world.work).output("x") == value


@pytest.mark.parametrize("told", [False, True], ids=["first format", "second format"])
def test_a_null_list_gives_no_items_in_the_second_format(world: World, told: bool) -> None:
    steps = {
        "each": {"for_each": "@triggerBody().none", "steps": {"do": {"type": "give", "inputs": {"value": "@item()"}}}},
        "after": {"type": "note", "inputs": {"value": "@steps('each').output"}},
        "other": {"type": "note", "inputs": {"value": "@triggerBody().x ?? 1" if told else "x"}},
    }
    run = world.start(flow_of(steps))
    if told:
        assert run.output("each") == []
        assert run.output("after")["value"] == []
        assert run.status == "succeeded"
    else:
        assert run.status == "failed"
        with pytest.raises(RunFailed, match="for_each of loop each gave null, not a list"):
            run.result()


def test_a_list_is_chosen(world: World) -> None:
    body = {"do": {"type": "give", "inputs": {"value": "@item()"}}}
    steps = {"each": {"for_each": "@triggerBody().a ?? @triggerBody().b", "steps": body}}
    for given in ({"a": [1, 2]}, {"b": [1, 2]}):
        assert world.start(flow_of(steps), given).output("each") == [1, 2]
    assert world.start(flow_of(steps), {}).output("each") == []
    with pytest.raises(RunFailed, match="for_each of loop each gave a boolean, not a list"):
        world.start(flow_of({"each": {"for_each": "@triggerBody().a == 1", "steps": body}}), {"a": 1}).result()


def test_a_list_that_cannot_be_evaluated_fails_its_loop(world: World) -> None:
    body = {"do": {"type": "give", "inputs": {"value": "@item()"}}}
    run = world.start(flow_of({"each": {"for_each": "@triggerBody().a > 1 ?? null", "steps": body}}), {"a": "x"})
    with pytest.raises(RunFailed, match=r"for_each of loop each: .* string 'x' compared with number 1"):
        run.result()


def test_the_output_is_an_expression(world: World) -> None:
    steps = {"a": {"type": "fail"}, "b": {"type": "give", "inputs": {"value": 2}, "run_after": {"a": ["failed"]}}}
    output = {"value": "@steps('a').output ?? @steps('b').output", "how": "@steps('a').status"}
    run = world.finish(world.start(flow_of(steps, output=output)))
    assert run.result() == {"value": 2, "how": "failed"}


def test_an_output_that_cannot_be_evaluated_says_so(world: World) -> None:
    steps = {"a": {"type": "give", "inputs": {"value": "x"}}}
    run = world.start(flow_of(steps, output="@steps('a').output > 1"))
    with pytest.raises(OutputInvalid, match=r"cannot be made: .* compared with number 1"):
        run.result()
    assert run.status == "succeeded"


# ---- manifests ----


def test_a_manifest_has_the_lowest_format_that_it_needs() -> None:
    for value in ("@triggerBody().a", "plain", "@@triggerBody() ?? 1", ["@triggerBody()"]):
        assert flow_of({"x": {"type": "give", "inputs": {"value": value}}}).manifest.format == 1
    for value in ("@triggerBody().a ?? 1", "@triggerHeaders()", ["@triggerBody() == 1"]):
        assert flow_of({"x": {"type": "give", "inputs": {"value": value}}}).manifest.format == 2
    body = {"do": {"type": "give", "inputs": {"value": "@index() == 0"}}}
    assert flow_of({"each": {"for_each": [1], "steps": body}}).manifest.format == 2
    told = flow_of({"a": {"type": "give", "inputs": {"value": 1}}}, output="@steps('a').status")
    assert told.manifest.format == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("@steps('no').status", "unknown step `no`"),
        ("@triggerBody() == @item()", "known inside a loop only"),
        ("@triggerBody() =! 1", "cannot be read"),
        ("@steps('x').status == 'failed'", "the step waits for itself"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(value: str, says: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"steps\.x") as caught:
        flow_of({"x": {"type": "give", "inputs": {"value": value}}})
    assert says in str(caught.value)
