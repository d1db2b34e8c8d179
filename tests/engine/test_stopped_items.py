"""A loop stops at a failure while items of it wait: what only waits is over with that, what runs goes on to its end."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import NotReady
from orchestrator.core.settling import Settle
from orchestrator.core.signals import Delivery
from orchestrator.core.states import RunStatus
from orchestrator.engine.steps import polls, retry_step, settle_step
from orchestrator.engine.subflows import report
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import SignalTooLate
from orchestrator.ledger import reads
from tests.engine.test_races import waits
from tests.engine.test_signals_in_loops import answer, open_waits, pay, wait
from tests.support.factories import Lab, after, call, retry

WHY = "the loop stopped: each.0 failed"
BEHIND = {"run_after": {"pick": ["succeeded"]}}
WAITS: dict[str, Any] = {
    "signal": {**wait(), **BEHIND},
    "signal with a time": {**wait(timeout="2d"), **BEHIND},
    "approval": {"approval": {"title": "ok?", "to": "ada"}, **BEHIND},
    "sleep": {"sleep": "P1D", **BEHIND},
    "until": {"until": "2100-01-01T00:00:00Z", **BEHIND},
}


def start(lab: Lab, count: int, steps: dict[str, Any], beside: bool = False, **fields: Any) -> UUID:
    """A loop that stops, and what takes its list."""
    orders = [{"id": f"o{n}", "parts": ["p", "q"]} for n in range(count)]
    each = {"for_each": "@triggerBody().orders", "steps": steps, "stop_on_failure": True, **fields}
    other = {"other": call()} if beside else {}
    return lab.run({"each": each, "join": after("each"), **other}, {"orders": orders})


def found(lab: Lab, run_id: UUID, *keys: str) -> list[str]:
    statuses = lab.statuses(run_id)
    return [statuses[key] for key in keys]


def items(lab: Lab, run_id: UUID) -> list[str]:
    return [status for key, status in lab.statuses(run_id).items() if key.count(".") == 1]


def output(lab: Lab, run_id: UUID, key: str = "each") -> Any:
    return reads.steps.output(lab.ledger, run_id, key)


@pytest.mark.parametrize("kind", WAITS)
def test_items_that_only_wait_are_over(lab: Lab, kind: str) -> None:
    steps = {"pick": call(), "wait": WAITS[kind], "ship": after("wait")}
    run_id = start(lab, 3, steps, output="@steps('ship').output")
    lab.do(run_id, "each.1.pick", "each.2.pick")
    assert found(lab, run_id, "each.1.wait", "each.2.wait") == ["waiting"] * 2
    lab.do_fail(run_id, "each.0.pick")
    lab.audit()
    assert items(lab, run_id) == ["failed", "skipped", "skipped"]
    for key in ("each.1", "each.1.wait", "each.1.ship", "each.2.wait"):
        assert (lab.step(run_id, key)["status"], lab.step(run_id, key)["reason"]) == ("skipped", WHY)
    assert open_waits(lab, run_id) == []
    assert lab.step(run_id, "each")["reason"] == "1 of its items failed; the first, each.0: pick failed: boom"
    assert lab.status(run_id) is RunStatus.FAILED
    (stopped,) = [event for event in reads.events.of_run(lab.ledger, run_id) if event.type == "step.stopped"]
    assert (stopped.step_key, stopped.facts) == ("each", {"failed": "each.0", "skipped": 2})
    assert lab.events(run_id).count("step.skipped each.1.wait") == 1
    lab.forward(timedelta(days=400 * 100))
    assert wake(lab.ledger).changed == 0
    lab.forward(timedelta(days=-400 * 100))


@pytest.mark.parametrize("key", [None, "each", "each.0", "each.0.pick"])
@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_retry_lets_them_in_again(lab: Lab, key: str | None, concurrency: int | None) -> None:
    """Where they waited: what they had done stays."""
    window = {} if concurrency is None else {"concurrency": concurrency}
    steps = {"pick": call(), "wait": WAITS["signal with a time"], "ship": after("wait")}
    run_id = start(lab, 4, steps, output="@steps('wait').output", **window)
    lab.do(run_id, "each.1.pick")
    lab.do_fail(run_id, "each.0.pick")
    assert lab.status(run_id) is RunStatus.FAILED
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    lab.audit()
    assert lab.statuses(run_id)["each.1.wait"] == "waiting"
    assert open_waits(lab, run_id) == ["each.1.wait"]
    assert pay(lab, run_id, 1)[0].step == "each.1.wait"
    for n in (0, 2, 3):
        pay(lab, run_id, n)
    order = lab.drain(run_id)
    assert "each.1.pick" not in order
    assert output(lab, run_id) == [{"amount": n} for n in range(4)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("act", ["skip", "mark"])
def test_whoever_settles_the_failure_lets_them_in_again(lab: Lab, act: str) -> None:
    steps = {"pick": call(), "wait": WAITS["signal"], "ship": after("wait")}
    run_id = start(lab, 2, steps)
    lab.do(run_id, "each.1.pick")
    lab.do_fail(run_id, "each.0.pick")
    given = None if act == "skip" else '"by hand"'
    settle_step.settle(lab.ledger, Settle(run_id, "each.0.pick", "ann", "so", given))
    lab.audit()
    assert open_waits(lab, run_id) == (["each.1.wait"] if act == "skip" else ["each.0.wait", "each.1.wait"])


def test_what_runs_goes_on_to_its_end_and_nothing_begins_behind_it(lab: Lab) -> None:
    steps = {"pick": call(), "pack": after("pick"), "ship": after("pack")}
    run_id = start(lab, 4, steps, beside=True, output="@steps('ship').output")
    lab.do(run_id, "each.2.pick", "each.2.pack")
    picking, shipping = lab.take(run_id, "each.1.pick"), lab.take(run_id, "each.2.ship")
    lab.do_fail(run_id, "each.0.pick")
    lab.audit()
    assert items(lab, run_id) == ["failed", "running", "running", "skipped"]
    assert found(lab, run_id, "each.1.pick", "each.1.pack", "each.1.ship") == ["running", "skipped", "skipped"]
    assert lab.statuses(run_id)["each"] == "running"
    assert lab.done(picking, "picked", chain=True).next is None
    lab.audit()
    assert items(lab, run_id) == ["failed", "skipped", "running", "skipped"]
    assert lab.step(run_id, "each.1")["reason"] == WHY
    lab.done(shipping, "shipped", chain=True)
    assert items(lab, run_id) == ["failed", "skipped", "succeeded", "skipped"]
    assert lab.statuses(run_id)["each"] == "failed"
    assert lab.ready(run_id) == ["other"]
    lab.do(run_id, "other")
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    order = lab.drain(run_id)
    assert "each.1.pick" not in order
    assert "each.2.ship" not in order
    assert output(lab, run_id) == ["each.0.ship", "each.1.ship", "shipped", "each.3.ship"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_what_fails_after_that_is_not_tried_again_and_fails_its_item(lab: Lab) -> None:
    """Nor is its failure taken up: that would be something new."""
    steps = {
        "pick": call(retry=retry(5)),
        "sorry": call(run_after={"pick": ["failed"]}),
        "wait": {"sleep": "P1D"},
    }
    run_id = start(lab, 3, steps)
    running = [lab.take(run_id, f"each.{n}.pick") for n in (1, 2)]
    lab.do_fail(run_id, "each.0.pick")
    lab.do(run_id, "each.0.sorry")
    lab.forward(timedelta(days=2))
    wake(lab.ledger)
    lab.forward(timedelta(days=-2))
    run_id = start(lab, 3, {**steps, "bad": call()})
    running = [lab.take(run_id, f"each.{n}.pick") for n in (1, 2)]
    lab.do_fail(run_id, "each.0.bad")
    assert lab.statuses(run_id)["each.0"] == "running", "its first step goes on"
    lab.do(run_id, "each.0.pick")
    assert lab.statuses(run_id)["each.0"] == "running", "as does its sleep: only others are stopped"
    lab.forward(timedelta(days=2))
    wake(lab.ledger)
    lab.forward(timedelta(days=-2))
    lab.audit()
    assert found(lab, run_id, "each.0", "each.1", "each.1.pick") == ["failed", "running", "running"]
    assert lab.statuses(run_id)["each.1.bad"] == "skipped"
    lab.fail(running[0])
    lab.audit()
    assert found(lab, run_id, "each.1.pick", "each.1.sorry", "each.1") == ["failed", "skipped", "failed"]
    assert lab.step(run_id, "each.1")["reason"] == "pick failed: boom"
    lab.done(running[1])
    assert lab.step(run_id, "each")["reason"].startswith("2 of its items failed; the first, each.0: bad failed")
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    lab.drain(run_id)
    lab.forward(timedelta(days=2))
    wake(lab.ledger)
    lab.drain(run_id)
    lab.forward(timedelta(days=-2))
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("graph", [True, False])
def test_back_offs_and_polls_are_over(lab: Lab, graph: bool) -> None:
    """A poll that was under way, too, unless it gives what was waited for."""
    body = call(poll={"every": "PT10S", "timeout": "PT1H"}, retry=retry(5))
    steps = {"ask": body, "use": after("ask")} if graph else {"ask": body}
    run_id = start(lab, 5, steps)
    polls.not_yet(lab.ledger, lab.take(run_id, "each.1.ask"), NotReady("not yet"))
    lab.fail(lab.take(run_id, "each.2.ask"))
    asking, given = lab.take(run_id, "each.3.ask"), lab.take(run_id, "each.4.ask")
    lab.do_fail(run_id, "each.0.ask")
    lab.audit()
    asks = [f"each.{n}.ask" for n in range(5)]
    assert found(lab, run_id, *asks) == ["failed", "skipped", "skipped", "running", "running"]
    polls.not_yet(lab.ledger, asking, NotReady("not yet"))
    lab.done(given, 1)
    lab.audit()
    assert found(lab, run_id, *asks) == ["failed", "skipped", "skipped", "skipped", "succeeded"]
    assert lab.step(run_id, "each.3.ask")["reason"] == WHY
    assert lab.status(run_id) is RunStatus.FAILED
    lab.forward(timedelta(hours=2))
    assert sweep.due(lab.ledger).changed == 0
    lab.forward(timedelta(hours=-2))
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert set(lab.ready(run_id)) >= {"each.0.ask", "each.1.ask", "each.2.ask", "each.3.ask"}
    polls.not_yet(lab.ledger, lab.take(run_id, "each.3.ask"), NotReady("not yet"))
    assert lab.statuses(run_id)["each.3.ask"] == "waiting", "nothing has stopped since"


def test_a_poll_of_an_item_that_was_retried_alone_goes_on(lab: Lab) -> None:
    """Though the loop has another failure still: that was before."""
    body = call(poll={"every": "PT10S", "timeout": "PT1H"})
    run_id = start(lab, 2, {"ask": body, "use": after("ask")})
    other = lab.take(run_id, "each.1.ask")
    lab.do_fail(run_id, "each.0.ask")
    lab.fail(other, retryable=False)
    retry_step.retry(lab.ledger, run_id, "each.1", by="ada")
    polls.not_yet(lab.ledger, lab.take(run_id, "each.1.ask"), NotReady("not yet"))
    assert found(lab, run_id, "each.1.ask", "each.0") == ["waiting", "failed"]


NESTED = {
    "pick": call(),
    "parts": {
        "for_each": "@item().parts",
        "steps": {"cut": call(), "nap": {"sleep": "P1D", "run_after": {"cut": ["succeeded"]}}, "glue": after("nap")},
        "run_after": {"pick": ["succeeded"]},
        "output": "@steps('glue').output",
        "concurrency": 1,
    },
    "check": after("parts"),
}


@pytest.mark.parametrize("key", [None, "each.0"])
def test_loops_inside_of_items_are_over_too(lab: Lab, key: str | None) -> None:
    run_id = start(lab, 3, NESTED, output="@steps('parts').output")
    lab.do(run_id, "each.1.pick", "each.1.parts.0.cut", "each.2.pick")
    running = lab.take(run_id, "each.2.parts.0.cut")
    lab.do_fail(run_id, "each.0.pick")
    lab.audit()
    assert found(lab, run_id, "each.1", "each.1.parts", "each.1.parts.0", "each.1.parts.1") == ["skipped"] * 4
    inside = ("each.2", "each.2.parts", "each.2.parts.0", "each.2.parts.1", "each.2.parts.0.nap", "each.2.check")
    assert found(lab, run_id, *inside) == ["running"] * 3 + ["skipped"] * 3
    lab.done(running, chain=True)
    assert found(lab, run_id, *inside) == ["skipped"] * 6
    assert lab.step(run_id, "each.2.parts")["reason"] == WHY
    assert lab.status(run_id) is RunStatus.FAILED
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    lab.audit()
    for _ in range(4):
        ran = lab.drain(run_id)
        assert not {"each.1.pick", "each.1.parts.0.cut", "each.2.pick", "each.2.parts.0.cut"}.intersection(ran)
        lab.forward(timedelta(days=1, hours=1))
        wake(lab.ledger)
    lab.drain(run_id)
    lab.forward(timedelta(days=-4, hours=-4))
    assert output(lab, run_id) == [[f"each.{n}.parts.{m}.glue" for m in range(2)] for n in range(3)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_short_loop_inside_of_an_item_gives_no_list_with_holes(lab: Lab) -> None:
    steps = {"parts": {"for_each": "@item().parts", "steps": {"cut": call()}}, "check": after("parts")}
    run_id = start(lab, 2, steps, output="@steps('check').output")
    running = lab.take(run_id, "each.1.parts.1.cut")
    lab.do_fail(run_id, "each.0.parts.0.cut")
    assert lab.statuses(run_id)["each.0"] == "running"
    lab.do(run_id, "each.0.parts.1.cut")
    lab.audit()
    assert found(lab, run_id, "each.0", "each.1.parts.0.cut", "each.1.parts") == ["failed", "skipped", "running"]
    lab.done(running, chain=True)
    assert found(lab, run_id, "each.1.parts", "each.1.check", "each.1", "each") == ["skipped"] * 3 + ["failed"]
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert sorted(lab.ready(run_id)) == ["each.0.parts.0.cut", "each.1.parts.0.cut"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_failure_inside_of_a_stopped_item_is_one_of_the_item(lab: Lab) -> None:
    """One that had failed already, and waited beside that; also in a loop of it."""
    failing = {"for_each": "@item().parts", "steps": {"cut": call(), "rest": {"sleep": "P1D"}}}
    steps = {"bad": call(), "nap": {"sleep": "P1D"}, "parts": failing}
    run_id = start(lab, 3, steps, beside=True)
    lab.do_fail(run_id, "each.1.bad")
    lab.do_fail(run_id, "each.2.parts.1.cut")
    lab.execute("UPDATE flow_steps SET wake_at = wake_at - interval '2 days' WHERE step_key = 'each.0.nap'")
    lab.do(run_id, "each.0.parts.0.cut", "each.0.parts.1.cut")
    lab.execute("UPDATE flow_steps SET wake_at = wake_at - interval '2 days' WHERE step_key LIKE 'each.0.parts%'")
    wake(lab.ledger)
    lab.audit()
    lab.do_fail(run_id, "each.0.bad")
    lab.audit()
    assert items(lab, run_id) == ["failed"] * 3
    assert lab.step(run_id, "each.1")["reason"] == "bad failed: boom"
    assert lab.step(run_id, "each.2")["reason"].startswith("parts failed: 1 of its items failed")
    assert found(lab, run_id, "each", "each.2.parts.0", "each.1.parts") == ["failed", "skipped", "skipped"]


def test_a_loop_that_stops_inside_of_an_item_stops_its_own_items(lab: Lab) -> None:
    inner = {**NESTED["parts"], "stop_on_failure": True, "concurrency": 2}  # type: ignore[dict-item]
    run_id = start(lab, 2, {**NESTED, "parts": inner}, stop_on_failure=False)
    lab.do(run_id, "each.0.pick", "each.1.pick", "each.0.parts.0.cut", "each.1.parts.0.cut")
    lab.do_fail(run_id, "each.0.parts.1.cut")
    lab.audit()
    assert found(lab, run_id, "each.0.parts.0", "each.0.parts", "each.0", "each.1") == [
        "skipped",
        *["failed"] * 2,
        "running",
    ]
    assert lab.statuses(run_id)["each.1.parts.0.nap"] == "waiting"
    retry_step.retry(lab.ledger, run_id, "each.0.parts.1.cut", by="ada")
    lab.audit()
    assert found(lab, run_id, "each.0.parts.0.nap", "each.0.parts.1.cut") == ["waiting", "ready"]


def test_a_call_goes_on_unless_it_waits_for_its_next_try(lab: Lab) -> None:
    """As in a race: a run that was called is not taken back; its failure is not followed by another one."""
    lab.flow({"a": call()}, name="child", output="@steps('a').output")
    ship = {"flow": "child", "inputs": {"x": "@item()"}, "retry": retry(3, 60.0)}
    run_id = start(lab, 4, {"ship": ship, "seal": after("ship")})
    rows = lab.rows("SELECT step_key, child_run_id FROM flow_steps WHERE child_run_id IS NOT NULL ORDER BY step_key")
    called = {row["step_key"]: row["child_run_id"] for row in rows}
    lab.do_fail(called["each.3.ship"], "a")
    report.tell(lab.ledger, called["each.3.ship"])
    assert lab.statuses(run_id)["each.3.ship"] == "waiting"
    settle_step.settle(lab.ledger, Settle(run_id, "each.0.seal", "ann", "so"))
    for _ in range(3):
        (row,) = lab.rows("SELECT child_run_id FROM flow_steps WHERE step_key = 'each.0.ship'")
        lab.do_fail(row["child_run_id"], "a")
        report.tell(lab.ledger, row["child_run_id"])
        lab.execute("UPDATE flow_steps SET wake_at = flow_now() WHERE step_key = 'each.0.ship' AND status = 'waiting'")
        wake(lab.ledger)
    lab.audit()
    keys = [f"each.{n}.ship" for n in range(4)]
    assert found(lab, run_id, *keys) == ["failed", "running", "running", "skipped"]
    lab.do(called["each.1.ship"], "a")
    report.tell(lab.ledger, called["each.1.ship"])
    lab.do_fail(called["each.2.ship"], "a")
    report.tell(lab.ledger, called["each.2.ship"])
    assert found(lab, run_id, *keys) == ["failed", "succeeded", "failed", "skipped"]
    assert items(lab, run_id) == ["failed", "skipped", "failed", "skipped"]
    assert lab.status(run_id) is RunStatus.FAILED


def test_items_fail_together(lab: Lab) -> None:
    """In one transaction, in which steps of others are about to go."""
    steps = {
        "nap": {"sleep": "P1D"},
        "check": {"require": "@item().id != 'o1'", "message": "no", "run_after": {"nap": ["succeeded"]}},
        "ship": after("check"),
    }
    run_id = start(lab, 4, steps)
    lab.execute(
        "UPDATE flow_steps SET wake_at = wake_at - interval '2 days' WHERE step_key < 'each.3' AND wake_at IS NOT NULL"
    )
    wake(lab.ledger)
    lab.audit()
    assert items(lab, run_id) == ["skipped", "failed", "skipped", "skipped"]
    assert lab.step(run_id, "each.0.ship")["reason"] == "the loop stopped: each.1 failed"
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.rows("SELECT FROM flow_steps WHERE queued") == []


# ---- races ----

PAID = {"pick": call(), "paid": {**wait(), **BEHIND}, "ship": after("paid")}


@pytest.mark.parametrize("first", ["signal", "failure"])
def test_a_signal_meets_the_stop(lab: Lab, first: str) -> None:
    """Both wait for the run; PostgreSQL lets them in as they came."""
    run_id = start(lab, 2, PAID, output="@steps('paid').output")
    lab.do(run_id, "each.1.pick")
    lease = lab.take(run_id, "each.0.pick")
    calls: dict[str, Callable[[], Any]] = {
        "signal": partial(answer, lab, run_id, key="o1"),
        "failure": partial(lab.fail, lease, retryable=False),
    }
    second = next(name for name in calls if name != first)
    with lab.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", run_id):
        one = lab.later(calls[first])
        waits(lab)
        other = lab.later(calls[second])
        waits(lab, 2)
    given = {first: one.result(), second: other.result()}
    lab.audit()
    assert lab.status(run_id) is RunStatus.FAILED
    assert items(lab, run_id) == ["failed", "skipped"]
    if first == "signal":
        assert isinstance(given["signal"], Delivery)
        assert found(lab, run_id, "each.1.paid", "each.1.ship") == ["succeeded", "skipped"]
    else:
        assert isinstance(given["signal"], SignalTooLate)
        assert found(lab, run_id, "each.1.paid", "each.1.ship") == ["skipped", "skipped"]
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    lab.audit()
    if first == "failure":
        assert pay(lab, run_id, 1)[0].step == "each.1.paid"
    assert "each.1.ship" in lab.ready(run_id)
    pay(lab, run_id, 0)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_all_of_them_collide(lab: Lab) -> None:
    """A failure, a signal, a time that is over, steps that end and one that is claimed: no count is lost, and all of
    it runs in the end."""
    steps = {
        "pick": call(),
        "paid": {**wait(), **BEHIND},
        "nap": {"sleep": "P1D", **BEHIND},
        "ship": after("paid", "nap"),
    }
    for _ in range(4):
        run_id = start(lab, 6, steps, concurrency=5)
        lab.do(run_id, "each.1.pick", "each.2.pick")
        pay(lab, run_id, 3)
        bad, good = lab.take(run_id, "each.0.pick"), lab.take(run_id, "each.3.pick")
        lab.execute(
            "UPDATE flow_steps SET wake_at = wake_at - interval '2 days' WHERE run_id = %s AND step_key = 'each.2.nap'",
            run_id,
        )
        *_, finished, taken = lab.race(
            partial(lab.fail, bad, retryable=False),
            partial(answer, lab, run_id, key="o1"),
            partial(wake, lab.ledger),
            partial(lab.done, good, chain=True),
            partial(lab.try_take, run_id, "each.4.pick"),
        )
        lab.audit()
        for lease in (finished.next, taken):
            if lease is not None:
                lab.done(lease)
        lab.drain(run_id)
        lab.audit()
        assert lab.status(run_id) is RunStatus.FAILED
        assert set(items(lab, run_id)) == {"failed", "skipped"}
        retry_step.retry(lab.ledger, run_id, None, by="ada")
        lab.audit()
        lab.drain(run_id)
        for n in range(6):
            answer(lab, run_id, key=f"o{n}")
        for _ in range(3):
            lab.execute(
                "UPDATE flow_steps SET wake_at = wake_at - interval '2 days' WHERE run_id = %s AND wake_at IS NOT NULL",
                run_id,
            )
            wake(lab.ledger)
            lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_steps_of_a_loop_inside_end_while_the_loop_around_stops(lab: Lab) -> None:
    """They hold the row of the loop inside, and wait for nothing that the stop holds."""
    steps = {"parts": {"for_each": "@item().parts", "steps": {"cut": call()}, "concurrency": 1}, "bad": call()}
    for _ in range(4):
        run_id = start(lab, 3, steps, beside=True)
        lab.do(run_id, "each.0.parts.0.cut", "each.0.parts.1.cut")
        bad = lab.take(run_id, "each.0.bad")
        cuts = [lab.take(run_id, f"each.{n}.parts.0.cut") for n in (1, 2)]
        results = lab.race(
            partial(lab.fail, bad, retryable=False), *(partial(lab.done, cut, chain=True) for cut in cuts)
        )
        lab.audit()
        chained = [one.next for one in results[1:] if one.next is not None]
        for lease in chained:
            lab.done(lease)
        lab.audit()
        assert lab.statuses(run_id)["each"] == "failed"
        lab.do(run_id, "other")
        retry_step.retry(lab.ledger, run_id, None, by="ada")
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.slow
def test_a_thousand_items_that_wait_are_over_with_few_statements(lab: Lab) -> None:
    run_id = start(lab, 1_000, PAID, concurrency=1_000)
    for n in range(1, 1_000):
        lab.do(run_id, f"each.{n}.pick")
    before = len(lab.rows("SELECT FROM flow_events WHERE run_id = %s", run_id))
    lab.do_fail(run_id, "each.0.pick")
    lab.audit()
    assert open_waits(lab, run_id) == []
    assert lab.status(run_id) is RunStatus.FAILED
    assert len(lab.rows("SELECT FROM flow_events WHERE run_id = %s", run_id)) - before < 3 * 1_000 + 20


@pytest.mark.parametrize("beside", [False, True])
def test_a_failure_counts_when_what_would_take_it_up_is_stopped(lab: Lab, beside: bool) -> None:
    """It waits for its next try. The item has failed then, at once or when what runs in it has ended."""
    steps = {
        "pick": call(),
        "sorry": call(run_after={"pick": ["failed"]}, retry=retry(3)),
        **({"pack": call()} if beside else {}),
    }
    run_id = start(lab, 2, steps)
    running = lab.take(run_id, "each.1.pack") if beside else None
    lab.do_fail(run_id, "each.1.pick")
    lab.fail(lab.take(run_id, "each.1.sorry"), retryable=True)
    lab.do_fail(run_id, "each.0.pick")
    lab.do_fail(run_id, "each.0.sorry")
    lab.do(run_id, *(["each.0.pack"] if beside else []))
    lab.audit()
    if running is not None:
        assert items(lab, run_id) == ["failed", "running"]
        lab.done(running, "packed")
    lab.audit()
    assert lab.step(run_id, "each.1.sorry")["status"] == "skipped"
    assert items(lab, run_id) == ["failed", "failed"]
    assert lab.step(run_id, "each.1")["reason"] == "pick failed: boom"
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
