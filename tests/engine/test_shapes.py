"""Graphs of every shape run to their end, with the right inputs and results."""

from typing import Any

import pytest

from orchestrator.core.facts import Lease
from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, keys, loop

CHAINING = pytest.mark.parametrize("chain", [False, True], ids=["dispatched", "chained"])


@CHAINING
def test_chain_passes_outputs_on(lab: Lab, chain: bool) -> None:
    """Each step reads what the one before gave; the run's output is read from the outputs."""
    run_id = lab.run(
        {
            "a": call(inputs={"x": "@triggerBody().x"}),
            "b": call(inputs={"x": "@steps('a').output", "fixed": "@@a"}),
            "c": call(inputs={"x": "@steps('b').output", "y": ["@steps('a').output"]}),
        },
        {"x": 1},
        output={"all": ["@steps('c').output", "@steps('a').output"]},
    )
    seen: dict[str, Any] = {}

    def work(lease: Lease) -> Any:
        seen[lease.step_key] = lab.inputs(lease)
        return seen[lease.step_key]["x"] + 1

    assert lab.status(run_id) is RunStatus.PENDING
    assert lab.drain(run_id, work, chain=chain) == ["a", "b", "c"]
    assert seen == {"a": {"x": 1}, "b": {"x": 2, "fixed": "@a"}, "c": {"x": 3, "y": [2]}}
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(lab.ledger, run_id) == {"all": [4, 2]}
    dispatched = sum("dispatched" in event for event in lab.events(run_id))
    assert dispatched == (1 if chain else 3)  # `a` has two successors, but only `b` may go


def test_events_tell_the_story_in_order(lab: Lab) -> None:
    """The audit of a run is what people read first."""
    run_id = lab.run({"a": call(), "b": after("a")})
    lab.drain(run_id, chain=True)
    assert lab.events(run_id) == [
        "run.accepted",
        "step.dispatched a",
        "run.started",
        "step.started a",
        "step.succeeded a",
        "step.started b",
        "step.succeeded b",
        "run.succeeded",
    ]


@CHAINING
def test_diamond_joins_once(lab: Lab, chain: bool) -> None:
    """The join waits for both branches, and reads both outputs although one was finished elsewhere."""
    run_id = lab.run(
        {
            "a": call(),
            "b": after("a"),
            "c": after("a"),
            "d": call(inputs={"b": "@steps('b').output", "c": "@steps('c').output"}),
        }
    )
    assert keys(lab.do(run_id, "a").dispatches) == ["b", "c"]
    assert lab.done(lab.take(run_id, "b"), "B", chain=chain).dispatches == ()
    finished = lab.done(lab.take(run_id, "c"), "C", chain=chain)
    assert (finished.next is not None) is chain
    lease = finished.next or lab.take(run_id, "d")
    assert lab.inputs(lease) == {"b": "B", "c": "C"}
    assert lab.done(lease).run_status is RunStatus.SUCCEEDED


SOURCES: dict[str, Any] = {
    "trigger": "@triggerBody()",
    "trigger path": "@triggerBody().deep[0]['the list']",
    "output path": "@steps('list').output.deep[-1].items",
    "literal": "literal",
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_fan_out_collects_in_order(lab: Lab, source: str, count: int) -> None:
    """The loop's output is the ordered list of its children's, whatever order they finish in."""
    items: list[Any] = [{"n": n} for n in range(count)]
    steps: dict[str, Any] = {"each": loop(SOURCES[source]), "join": call(inputs={"all": "@steps('each').output"})}
    body: Any = {"deep": [{"the list": items}]}
    if source == "literal":
        steps["each"] = loop([{"n": "@triggerBody().zero"}, *items[1:]] if items else [])
        body = {"zero": 0}
    if source == "trigger":
        body = items
    if source == "output path":
        steps["list"] = call()
    lab.flow(steps, input_schema={})
    run_id = lab.start(body=body)
    if source == "output path":
        lab.do(run_id, "list", output={"deep": [1, {"items": items}]})
    while ready := [key for key in lab.ready(run_id) if key.startswith("each.")]:
        lease = lab.take(run_id, ready[-1])
        assert lab.inputs(lease) == {"item": {"n": lease.index}, "index": lease.index}
        lab.done(lease, lease.index)
    join = lab.take(run_id, "join")
    assert lab.inputs(join) == {"all": list(range(count))}
    assert lab.done(join).run_status is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("value", "kind"), [({"a": 1}, "an object"), ("text", "a string"), (None, "null"), (7, "a number")]
)
@pytest.mark.parametrize("python", [False, True])
def test_a_loop_over_no_list_fails_and_says_so(lab: Lab, value: Any, kind: str, python: bool) -> None:
    """The list is read in SQL, or in Python for paths that SQL reads otherwise: one behaviour."""
    lab.flow({"each": loop("@triggerBody().v[-1]" if python else "@triggerBody().v[0]"), "join": after("each")})
    run_id = lab.start(body={"v": [value]})
    assert lab.statuses(run_id) == {"each": "failed", "join": "skipped"}
    assert lab.status(run_id) is RunStatus.FAILED
    error = reads.runs.get(lab.ledger, run_id).error
    assert error == {
        "step": "each",
        "type": "LoopFailed",
        "message": f"for_each of loop each gave {kind}, not a list",
    }


def test_a_loop_over_a_missing_path_fails(lab: Lab) -> None:
    """Missing paths give null, and null is not a list."""
    run_id = lab.run({"each": loop("@triggerBody().nothing.here")})
    assert lab.step(run_id, "each")["reason"] == "for_each of loop each gave null, not a list"


def test_quoted_digits_are_a_name_and_not_an_index(lab: Lab) -> None:
    """PostgreSQL would take '0' of a list for its first element; the expression grammar does not."""
    lab.flow({"each": loop("@triggerBody()['0']")}, input_schema={})
    assert lab.status(lab.start(body=[[1, 2]])) is RunStatus.FAILED
    inside = lab.start(body={"0": [1, 2]})
    assert len(lab.drain(inside)) == 2


@CHAINING
@pytest.mark.parametrize("window", [1, 2, 3, 7, 8])
def test_window_is_never_exceeded(lab: Lab, window: int, chain: bool) -> None:
    """At most `concurrency` children are out at once, and all of them run."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=window), "join": after("each")})
    run_id = lab.start(body={"items": list(range(7))})
    held = [lab.take(run_id, key) for key in lab.ready(run_id)]
    assert len(held) == min(window, 7)
    ran = 0
    while held:
        finished = lab.done(held.pop(), chain=chain)
        ran += 1
        held += [finished.next] if finished.next else []
        held += [lab.take(run_id, d.step_key) for d in finished.dispatches]
        lab.audit()
        assert len(held) <= window
    assert ran == 8
    assert finished.run_status is RunStatus.SUCCEEDED


def test_failed_children_open_the_window_too(lab: Lab) -> None:
    """A failure takes its place in the window with it."""
    lab.flow({"each": loop("@triggerBody().items", concurrency=2)})
    run_id = lab.start(body={"items": list(range(5))})
    ran = 0
    while ready := lab.ready(run_id):
        assert len(ready) <= 2
        if ran % 2:
            lab.do(run_id, ready[0])
        else:
            lab.do_fail(run_id, ready[0])
        ran += 1
        lab.audit()
    assert ran == 5
    assert lab.status(run_id) is RunStatus.FAILED


def test_several_roots_and_sinks(lab: Lab) -> None:
    """The run ends with its last sink, in whatever order."""
    run_id = lab.run({"a": call(), "b": call(), "c": after("a"), "d": after("a", "b"), "e": call()})
    assert lab.ready(run_id) == ["a", "b", "e"]
    lab.do(run_id, "e", "b", "a", "d")
    assert lab.status(run_id) is RunStatus.RUNNING
    assert lab.do(run_id, "c").run_status is RunStatus.SUCCEEDED


def test_a_flow_without_steps_succeeds_at_once(lab: Lab) -> None:
    """Nothing to do is done; the audit and the controls say so too."""
    run_id = lab.run({}, output={"x": "@triggerBody().x"}, body={"x": 5}, deadline="PT1S")
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.runs.result(lab.ledger, run_id) == {"x": 5}
    assert lab.events(run_id) == ["run.accepted", "run.succeeded"]


def test_two_loops_one_after_the_other(lab: Lab) -> None:
    """The second fans out over what the first collected."""
    run_id = lab.run(
        {
            "one": loop([1, 2, 3]),
            "two": loop("@steps('one').output"),
            "three": loop("@steps('one').output", concurrency=1),
        },
        output="@steps('two').output",
    )
    lab.drain(run_id, lambda lease: lab.inputs(lease)["item"] * 2, chain=True)
    assert reads.runs.result(lab.ledger, run_id) == [4, 8, 12]


def test_a_loops_body_may_read_steps_and_the_trigger(lab: Lab) -> None:
    """References inside the body wait for their step like any other."""
    body = {"inputs": {"n": "@item().n", "k": "@steps('k').output.v", "t": "@triggerBody().t"}}
    run_id = lab.run({"k": call(), "each": loop([{"n": 1}, {"n": 2}], body=body)}, {"t": "T"})
    assert lab.statuses(run_id) == {"each": "blocked", "k": "ready"}
    lab.do(run_id, "k", output={"v": 9})
    assert lab.inputs(lab.take(run_id, "each.1.do")) == {"n": 2, "k": 9, "t": "T"}


def test_queue_and_priority_are_inherited(lab: Lab) -> None:
    """Step, then loop, then flow."""
    lab.flow(
        {"a": call(), "b": call(queue="fast", priority=0), "each": loop([1], queue="bulk", priority=9)},
        queue="main",
    )
    run_id = lab.start()
    found = {key: (lab.step(run_id, key)["queue"], lab.step(run_id, key)["priority"]) for key in lab.ready(run_id)}
    assert found == {"a": ("main", 5), "b": ("fast", 0), "each.0.do": ("bulk", 9)}


def test_a_chain_stays_on_its_queue(lab: Lab) -> None:
    """The finishing worker takes the next step only if its queue, priority and handler are the same."""
    run_id = lab.run(
        {
            "a": call(),
            "b": after("a", queue="gpu"),
            "c": after("b", priority=0),
            "d": call("other", run_after={"c": ["succeeded"]}),
        }
    )
    for key in ("a", "b", "c"):
        finished = lab.done(lab.take(run_id, key), chain=True)
        assert finished.next is None
        assert len(finished.dispatches) == 1
