"""Conditions, joins, merges, requirements and races in the ledger: the counters stay right, and runs end as the rules
say."""

import contextlib
import random
from collections.abc import Mapping
from typing import Any, Final

import pytest

from orchestrator.core.manifest import Manifest
from orchestrator.engine.runs import explain
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, ManifestInvalid
from tests.engine.test_general_path import statements
from tests.engine.test_random import Fate, Operated, Scheduler
from tests.proof.interpreter import Reference, interpret
from tests.support.factories import Lab, after, call, loop, retry

OK: Final = ["succeeded"]


def merge(*keys: str, join: str = "none_failed", **fields: Any) -> dict[str, Any]:
    value = " ?? ".join(f"@steps('{key}').output" for key in keys)
    return {"value": value, "join": join, "run_after": dict.fromkeys(keys, OK), **fields}


def reason(lab: Lab, run_id: Any, key: str) -> str:
    return str(lab.step(run_id, key)["reason"])


# ---- conditions ----


def test_a_branch_and_what_joins_both(lab: Lab) -> None:
    """One of two goes, the other is skipped with its values; the merge has the one that ran, and is no attempt."""
    run_id = lab.run(
        {
            "total": call(),
            "review": after("total", when="@steps('total').output > 1000"),
            "accept": after("total", when="!(@steps('total').output > 1000)"),
            "merged": merge("review", "accept"),
            "ship": call(inputs={"what": "@steps('merged').output"}),
        }
    )
    lab.done(lab.take(run_id, "total"), 250)
    assert lab.ready(run_id) == ["accept"]
    assert reason(lab, run_id, "review") == "when: @steps('total').output > 1000 is false, with 250 > 1000"
    lab.audit()
    lab.done(lab.take(run_id, "accept"), "fine")
    assert lab.inputs(lab.take(run_id, "ship")) == {"what": "fine"}
    assert lab.attempts(run_id, "merged") == []


def test_explain_tells_the_edges_of_a_join(lab: Lab) -> None:
    """Which are met, which are not, which are open, and what is asked then."""
    edges = {"a": OK, "b": OK, "c": OK}
    end = call(join="some", run_after=edges, when="@steps('a').status == 'succeeded'")
    run_id = lab.run({"a": call(), "b": call(), "c": call(), "end": end, "plain": call(run_after=edges)})
    lab.do(run_id, "a")
    assert explain.explain(lab.ledger, run_id, "plain").sentence == "Step plain waits for b (ready), c (ready)."
    lab.fail(lab.take(run_id, "b"))
    assert explain.explain(lab.ledger, run_id, "end").sentence == (
        "Step end waits for c (ready). Met: a (succeeded). Not met: b (failed). It joins by `some`. "
        "Then it asks `when: @steps('a').status == 'succeeded'`."
    )
    assert "Not met: b (failed). It joins by `all`." in explain.explain(lab.ledger, run_id, "plain").sentence


@pytest.mark.parametrize(
    "step",
    [{"type": "t", "when": "@triggerBody().n > 3"}, {"require": "@triggerBody().n != null", "message": "no"}],
    ids=["condition", "requirement"],
)
def test_no_retry_is_advised_where_it_would_read_the_same(lab: Lab, step: dict[str, Any]) -> None:
    run_id = lab.run({"a": step}, {"n": None})
    found = explain.explain(lab.ledger, run_id)
    assert found.command == f"orchestrator run show {run_id}"
    assert f"`orchestrator run rerun {run_id} --input @FILE`" in found.sentence
    assert f"orchestrator run mark {run_id} a" in found.sentence
    assert "run retry" not in found.sentence


def test_the_first_step_may_have_a_condition(lab: Lab) -> None:
    """It reads the input; nothing is dispatched before it is asked, and a run in which all is skipped succeeds."""
    steps = {"a": call(when="@triggerBody().go"), "b": after("a")}
    assert lab.ready(lab.run(steps, {"go": True})) == ["a"]
    run_id = lab.start(body={"go": False})
    assert (lab.statuses(run_id), lab.status(run_id)) == ({"a": "skipped", "b": "skipped"}, "succeeded")
    assert reason(lab, run_id, "a") == "when: @triggerBody().go is false, with false"
    assert reason(lab, run_id, "b") == "a was skipped, `run_after` asks for succeeded"


@pytest.mark.parametrize(
    ("when_errors", "status", "ends"),
    [("fail", "failed", "failed"), ("skip", "skipped", "succeeded")],
)
def test_a_condition_that_cannot_be_evaluated(lab: Lab, when_errors: str, status: str, ends: str) -> None:
    """Fails its step, without an attempt; or skips it, where the flow says so."""
    steps = {"a": call(), "b": after("a", when="@steps('a').output > 3", retry=retry(5))}
    run_id = lab.run(steps, when_errors=when_errors)
    lab.done(lab.take(run_id, "a"), "x")
    assert (lab.statuses(run_id)["b"], lab.status(run_id)) == (status, ends)
    assert reason(lab, run_id, "b") == (
        "when: @steps('a').output > 3 cannot be evaluated: string 'x' compared with number 3"
    )
    assert lab.attempts(run_id, "b") == []
    assert ("step.when_failed b" in lab.events(run_id)) is (when_errors == "fail")


def test_a_requirement_holds_or_says_what_is_wrong(lab: Lab) -> None:
    """It is a step of its own: what comes after it is skipped when it does not hold."""
    steps = {
        "a": call(),
        "paid": {"require": "@steps('a').output.ok", "message": "nobody paid"},
        "ship": after("paid"),
    }
    run_id = lab.run(steps)
    lab.done(lab.take(run_id, "a"), {"ok": True})
    assert lab.ready(run_id) == ["ship"]
    run_id = lab.start()
    lab.done(lab.take(run_id, "a"), {"ok": False})
    assert lab.statuses(run_id) == {"a": "succeeded", "paid": "failed", "ship": "skipped"}
    assert lab.run_row(run_id)["error"] == {"step": "paid", "type": "RequirementFailed", "message": "nobody paid"}


def test_a_retry_asks_a_condition_again(lab: Lab) -> None:
    """With what is there now."""
    run_id = lab.run({"a": call(), "b": call(), "c": after("a", "b", when="@steps('a').output == 2")})
    lab.done(lab.take(run_id, "b"), 1)
    lab.do_fail(run_id, "a")
    retry_step.retry(lab.ledger, run_id, None, by="op")
    lab.audit()
    lab.done(lab.take(run_id, "a"), 2)
    assert lab.ready(run_id) == ["c"]


@pytest.mark.parametrize(
    ("when", "foreseen"),
    [
        ("@steps('a').output > 1", True),
        ("@triggerBody().go && @steps('a').output > 1", True),
        ("!(@steps('a').output > 1)", False),
        ("@steps('a').output > 'x'", False),
        ("@steps('a').status == 'succeeded'", False),
    ],
)
def test_a_condition_that_can_be_foreseen_costs_no_statement(lab: Lab, when: str, foreseen: bool) -> None:
    """Whoever finishes the step before has all that it reads; where it does not hold, the run is held as ever."""
    run_id = lab.run({"a": call(), "b": after("a", when=when), "c": after("b")}, {"go": True})
    lease = lab.take(run_id, "a")
    lab.inputs(lease)
    with statements(lab) as found:
        finished = lab.done(lease, 2, chain=True)
    assert (found == []) is foreseen, found  # what the driver's own cursor sends is not among them
    lab.audit()
    expected = "running" if "status" in when or foreseen else "skipped" if "!" in when else "failed"
    assert lab.statuses(run_id)["b"] == expected
    assert (finished.next is not None) is (expected == "running")


# ---- joins ----


@pytest.mark.parametrize(
    ("join", "ends", "becomes", "why"),
    [
        ("some", "sf", "ready", None),
        ("some", "ff", "skipped", "none of a, b succeeded"),
        ("none_failed", "sf", "skipped", "b failed, `run_after` asks for succeeded"),
        ("none_failed", "sk", "ready", None),
        ("none_failed", "kk", "skipped", "a, b were all skipped"),
        ("all_done", "fk", "ready", None),
        ("all_done", "kk", "ready", None),
        ("any", "ff", "skipped", "none of a, b succeeded"),
        ("any", "fk", "skipped", "none of a, b succeeded"),
    ],
)
def test_joins(lab: Lab, join: str, ends: str, becomes: str, why: str | None) -> None:
    """Two predecessors, one after the other: s succeeds, f fails, k is skipped."""
    whens = {key: {} if end != "k" else {"when": "false"} for key, end in zip("ab", ends, strict=True)}
    steps = {
        "first": call(),
        **{key: after("first", **when) for key, when in whens.items()},
        "end": {**call(join=join), "run_after": {"a": [], "b": []} if join == "all_done" else {"a": OK, "b": OK}},
    }
    run_id = lab.run(steps)
    lab.do(run_id, "first")
    for key, end in zip("ab", ends, strict=True):
        lab.audit()
        if end == "s":
            lab.do(run_id, key)
        elif end == "f":
            lab.do_fail(run_id, key)
    assert lab.statuses(run_id)["end"] == becomes
    assert why is None or reason(lab, run_id, "end") == why
    lab.audit()


# ---- races ----


def race(**more: Any) -> dict[str, Any]:
    return {
        "fast": call(),
        "before": call(),
        "slow": after("before"),
        "best": merge("fast", "slow", join="any", **more),
        "use": call(inputs={"best": "@steps('best').output"}),
    }


def test_the_first_success_is_enough(lab: Lab) -> None:
    """What leads only to it and has not begun is withdrawn; the run ends when the winner's way has."""
    run_id = lab.run(race())
    lab.done(lab.take(run_id, "fast"), 5)
    lab.audit()
    assert lab.statuses(run_id) == {
        "fast": "succeeded",
        "before": "skipped",
        "slow": "skipped",
        "best": "succeeded",
        "use": "ready",
    }
    assert reason(lab, run_id, "slow") == "withdrawn: best was decided by fast"
    assert "step.withdrawn before" in lab.events(run_id)
    lease = lab.take(run_id, "use")
    assert lab.inputs(lease) == {"best": 5}
    lab.done(lease)
    assert lab.status(run_id) == "succeeded"


@pytest.mark.parametrize("fails", [False, True])
def test_a_late_sibling_runs_on_and_decides_nothing(lab: Lab, fails: bool) -> None:
    """The run waits for it; its failure is no failure of the run, and its result is not the race's."""
    run_id = lab.run(race())
    lab.do(run_id, "before")
    slow = lab.take(run_id, "slow")
    lab.done(lab.take(run_id, "fast"), 5)
    lab.audit()
    lab.do(run_id, "use")
    assert lab.status(run_id) == "running"
    if fails:
        lab.fail(slow, retryable=False)
    else:
        lab.done(slow, 7)
    assert lab.status(run_id) == "succeeded"
    assert lab.rows("SELECT output FROM flow_outputs WHERE step_key = 'best'") == [{"output": 5}]


def test_the_rest_may_be_left_alone(lab: Lab) -> None:
    """Then all of it runs, and the run waits for that."""
    run_id = lab.run(race(rest="leave"))
    lab.done(lab.take(run_id, "fast"), 5)
    lab.audit()
    assert sorted(lab.ready(run_id)) == ["before", "use"]
    lab.do(run_id, "use", "before")
    assert lab.status(run_id) == "running"
    lab.do(run_id, "slow")
    assert lab.status(run_id) == "succeeded"


def test_a_failed_one_waits_for_the_other(lab: Lab) -> None:
    """It is handled by the race, as long as the other one may succeed."""
    run_id = lab.run(race())
    lab.do_fail(run_id, "fast")
    lab.audit()
    lab.do(run_id, "before", "slow", "use")
    assert lab.status(run_id) == "succeeded"
    run_id = lab.start()
    lab.do_fail(run_id, "fast")
    lab.do_fail(run_id, "before")
    assert (lab.status(run_id), lab.run_row(run_id)["failures"]) == ("failed", 2)


def test_a_retried_loser_opens_nothing_again(lab: Lab) -> None:
    """The race was decided; the loser runs again and is done."""
    run_id = lab.run({**race(), "end": after("use")})
    lab.do(run_id, "before")
    slow = lab.take(run_id, "slow")
    lab.do(run_id, "fast", "use")
    lab.fail(slow, retryable=False)
    lab.do_fail(run_id, "end")
    retry_step.retry(lab.ledger, run_id, None, by="op")
    lab.audit()
    assert sorted(lab.ready(run_id)) == ["end", "slow"]
    lab.do(run_id, "slow", "end")
    assert lab.status(run_id) == "succeeded"


def test_what_was_withdrawn_stays_so(lab: Lab) -> None:
    """Also when what is before it is retried."""
    run_id = lab.run({**race(), "other": after("before")})
    before = lab.take(run_id, "before")
    lab.do(run_id, "fast", "use")
    lab.fail(before, retryable=False)
    retry_step.retry(lab.ledger, run_id, None, by="op")
    lab.audit()
    lab.do(run_id, "before", "other")
    assert (lab.statuses(run_id)["slow"], lab.status(run_id)) == ("skipped", "succeeded")


def test_a_step_that_goes_early_sees_only_what_had_ended(lab: Lab) -> None:
    """What comes later is null for it, also in its second attempt."""
    inputs = {"fast": "@steps('fast').output", "slow": "@steps('slow').output"}
    steps = {"fast": call(), "slow": call(), "use": call(inputs=inputs, join="any", retry=retry(2))}
    run_id = lab.run(steps)
    slow = lab.take(run_id, "slow")
    lab.done(lab.take(run_id, "fast"), 1)
    lab.fail(lab.take(run_id, "use"))
    lab.done(slow, 2)
    lab.forward(5)
    sweep.due(lab.ledger)
    assert lab.inputs(lab.take(run_id, "use")) == {"fast": 1, "slow": None}


# ---- random graphs ----


def graph(rng: random.Random) -> dict[str, Any]:
    """Steps of all kinds, each after some of those before it."""
    steps: dict[str, Any] = {}
    for n in range(rng.randint(2, 8)):
        before = rng.sample(list(steps), k=min(len(steps), rng.choice((0, 1, 1, 2, 3))))
        join = rng.choice(("all", "all", "any", "some", "none_failed", "all_done")) if before else "all"
        accepted = (OK, OK, OK, ["failed"], ["succeeded", "failed"], ["skipped", "succeeded"])
        run_after = {key: [] if join == "all_done" else rng.choice(accepted) for key in before}
        fields: dict[str, Any] = {"run_after": run_after, **({"join": join} if join != "all" else {})}
        if rng.random() < 0.3:
            fields["when"] = rng.choice(("@triggerBody().yes", "@triggerBody().no", "@triggerBody().text == 3"))
        if rng.random() < 0.15:
            fields["may_fail"] = True
        steps[f"s{n}"] = _step(rng, before, join, fields)
    return steps


def _step(rng: random.Random, before: list[str], join: str, fields: dict[str, Any]) -> dict[str, Any]:
    dice = rng.random()
    if dice < 0.2 and before and join in ("all", "any", "none_failed"):
        value = " ?? ".join(f"@steps('{key}').output" for key in before)
        return {"value": value, **fields, **({"rest": "leave"} if join == "any" and rng.random() < 0.3 else {})}
    if dice < 0.3:
        return {"require": rng.choice(("@triggerBody().yes", "@triggerBody().no")), "message": "no", **fields}
    if dice < 0.5:
        return loop(list(range(rng.choice((0, 1, 2, 3)))), body={"retry": retry(2, 1)}, **fields)
    return call(retry=retry(2, 1), **fields)


BODY: Final = {"yes": True, "no": False, "text": "x"}
_RESULTS: Final = {"@triggerBody().yes": "true", "@triggerBody().no": "false", "@triggerBody().text == 3": "error"}
PLANS: Final[tuple[list[str], ...]] = ([], [], [], ["fail"], ["fail", "fail"], ["fatal"], ["crash"])


def valid_graph(rng: random.Random) -> dict[str, Any]:
    while True:
        steps = graph(rng)
        with contextlib.suppress(ManifestInvalid):
            Manifest(name="demo", steps=steps)
            return steps


def fates(rng: random.Random, steps: Mapping[str, Any]) -> dict[str, Fate]:
    plain = [key for key, step in steps.items() if "type" in step]
    children = [f"{key}.{n}.do" for key, step in steps.items() for n in range(len(step.get("for_each", ())))]
    return {key: Fate(rng.choice(PLANS)) for key in plain + children}


def reference_of(
    steps: Mapping[str, Any],
    fated: Mapping[str, Fate],
    found: Mapping[str, str],
    format: int,
    when_errors: str = "fail",
) -> Reference:
    """What the interpreter says of a graph."""
    ends = {key: frozenset({fate.end}) for key, fate in fated.items()}
    for key, step in steps.items():
        if "require" in step:
            ends[key] = frozenset({"succeeded" if step["require"] == "@triggerBody().yes" else "failed"})
    return interpret(
        steps,
        ends,
        {key: len(step["for_each"]) for key, step in steps.items() if "for_each" in step},
        known=found,
        format=format,
        conditions={key: frozenset({_RESULTS[step["when"]]}) for key, step in steps.items() if "when" in step},
        when_errors=when_errors,
    )


def within(found: Mapping[str, str], prefix: str) -> dict[str, str]:
    """What stands below a key, by the keys there."""
    return {key.removeprefix(prefix): status for key, status in found.items() if key.startswith(prefix)}


@pytest.mark.parametrize("when_errors", ["fail", "skip"])
@pytest.mark.parametrize("seed", range(20))
def test_random_runs_end_as_the_interpreter_says(lab: Lab, seed: int, when_errors: str) -> None:
    """Whatever the order, the crashes and the duplicates: after each moment the counters are right."""
    rng = random.Random(seed * 2 + (when_errors == "skip"))
    steps = valid_graph(rng)
    fated = fates(rng, steps)
    run_id = lab.run(steps, BODY, when_errors=when_errors)
    Scheduler(lab, run_id, rng, fated).play()
    lab.audit()
    found = lab.statuses(run_id)
    manifest = lab.ledger.plan(lab.run_row(run_id)["manifest_hash"]).manifest
    whole = manifest.model_dump(mode="json", exclude_defaults=True)["steps"]
    reference = reference_of(whole, fated, found, manifest.format, when_errors)
    wrong = {key: (status, reference.legal[key]) for key, status in found.items() if status not in reference.legal[key]}
    assert not wrong, f"seed {seed}: {whole}"
    assert lab.status(run_id) in reference.run, f"seed {seed}: {whole} {found}"


ITEMS: Final = 2


@pytest.mark.parametrize("seed", range(20))
def test_random_items_end_as_runs_do(lab: Lab, seed: int) -> None:
    """Each item of a loop with a graph ends as the interpreter says of a run of that graph."""
    rng = random.Random(9000 + seed)
    steps = valid_graph(rng)
    fated = [fates(rng, steps) for _ in range(ITEMS)]
    window = rng.choice(({}, {"concurrency": 1}))
    run_id = lab.run({"each": {"for_each": list(range(ITEMS)), "steps": steps, "errors": "collect", **window}}, BODY)
    placed = {f"each.{n}.{key}": fate for n, one in enumerate(fated) for key, fate in one.items()}
    Scheduler(lab, run_id, rng, placed).play()
    lab.audit()
    found = lab.statuses(run_id)
    if len(steps) == 1 and f"each.0.{next(iter(steps))}" in found and "each.0" not in found:
        return  # one plain step is not a graph
    manifest = lab.ledger.plan(lab.run_row(run_id)["manifest_hash"]).manifest
    whole = manifest.model_dump(mode="json", exclude_defaults=True)["steps"]["each"]["steps"]
    for n, one in enumerate(fated):
        ends = within(found, f"each.{n}.")
        reference = reference_of(whole, one, ends, manifest.format)
        legal = reference.legal
        wrong = {key: (status, legal[key]) for key, status in ends.items() if status not in legal[key]}
        assert not wrong, f"seed {seed}: {whole}"
        skipped = all(status == "skipped" for key, status in ends.items() if "." not in key)
        assert found[f"each.{n}"] in ({"skipped"} if skipped else reference.run), f"seed {seed}: {whole} {found}"


@pytest.mark.parametrize("seed", range(10))
def test_operators_never_strand_an_item(lab: Lab, seed: int) -> None:
    """Whatever is cancelled and retried when."""
    rng = random.Random(7000 + seed)
    steps = valid_graph(rng)
    fated = {f"each.{n}.{key}": fate for n in range(ITEMS) for key, fate in fates(rng, steps).items()}
    window = rng.choice(({}, {"concurrency": 1}, {"stop_on_failure": True}))
    run_id = lab.run({"each": {"for_each": list(range(ITEMS)), "steps": steps, **window}}, BODY)
    Operated(lab, run_id, rng, fated).play()


@pytest.mark.parametrize("seed", range(20))
def test_operators_never_strand_a_run(lab: Lab, seed: int) -> None:
    """Whatever is cancelled and retried when: the counters stay right, and the run ends."""
    rng = random.Random(5000 + seed)
    steps = valid_graph(rng)
    Operated(lab, lab.run(steps, BODY), rng, fates(rng, steps)).play()


def test_a_retry_of_what_was_withdrawn_is_refused(lab: Lab) -> None:
    """Nothing would follow from it."""
    run_id = lab.run({**race(), "end": after("use")})
    lab.do(run_id, "fast", "use")
    lab.do_fail(run_id, "end")
    with pytest.raises(Conflict, match="slow was withdrawn: best was decided without it, and nothing would follow"):
        retry_step.retry(lab.ledger, run_id, "slow", by="op")
