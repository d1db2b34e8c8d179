"""Who owns a definition: workers go forward, clients stand beside, operators go back."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import Claimant, Dispatch, Lease, StartRequest, UnknownVersion, WorkerInfo
from orchestrator.core.manifest import FORMAT, Manifest
from orchestrator.core.states import StepStatus
from orchestrator.engine import workers
from orchestrator.engine.flows import register, switch
from orchestrator.engine.runs import explain, start_run
from orchestrator.engine.schedules import operate, tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.steps import claim_step
from orchestrator.engine.sweeps import redispatch
from orchestrator.errors import FlowDisabled, FlowNotFound, ManifestUnreadable, NotFound
from orchestrator.ledger import reads
from orchestrator.ledger.ticks import Span
from tests.support.factories import LEASE, Lab, after, call
from tests.support.race import race


def version(*keys: str, rule: str | None = None, **fields: Any) -> Manifest:
    """A version of the flow `shop`: a chain of these steps."""
    steps = {key: after(before) if before else call() for before, key in zip((None, *keys), keys, strict=False)}
    schedules = {"daily": {"type": "cron", "expression": rule}} if rule else {}
    return Manifest(name="shop", steps=steps, triggers={"manual": {}, **schedules}, **fields)


OLD, NEW = version("a", rule="0 7 * * *"), version("a", "b", rule="0 9 * * *")
OTHER = Manifest(name="shop", steps={"z": call("rest")})


def hello(lab: Lab, *tasks: str) -> None:
    """A live worker with these handlers, whose code has `NEW`."""
    info = WorkerInfo("h/1/r", "h", 1, "prefork", 4, 4, ("default",), tasks, "1", versions={"shop": NEW.hash})
    workers.hello(lab.ledger, info)


def current(lab: Lab) -> str:
    return reads.flows.get(lab.ledger, "shop").manifest_hash


def rule(lab: Lab) -> str:
    (row,) = lab.rows("SELECT definition->>'expression' AS rule FROM flow_schedule_states")
    return str(row["rule"])


def test_a_worker_of_a_new_version_makes_it_current(lab: Lab) -> None:
    first = register.register(lab.ledger, OLD, "w1")
    second = register.register(lab.ledger, NEW, "w2")
    assert (first.ordinal, first.current, first.changed, first.before) == (1, True, True, None)
    assert (second.ordinal, second.current, second.changed, second.before) == (2, True, True, 1)
    assert (current(lab), rule(lab)) == (NEW.hash, "0 9 * * *")
    (event,) = reads.events.of_flow(lab.ledger, "shop")
    facts = {"flow": "shop", "by": "w2", "version": "1", "hash": NEW.hash[:12], "ordinal": 2, "before": 1}
    assert (event.type, event.facts) == ("flow.current", facts)


def test_an_old_worker_that_starts_again_changes_nothing(lab: Lab) -> None:
    """A pod that was not drained yet, a roll-back by restart, a laptop: neither the graph nor the schedules go back."""
    for manifest in (OLD, NEW, OLD, OLD):
        done = register.register(lab.ledger, manifest)
    assert (done.ordinal, done.current, done.changed, done.current_ordinal) == (1, False, False, 2)
    assert (current(lab), rule(lab)) == (NEW.hash, "0 9 * * *")
    assert len(reads.events.of_flow(lab.ledger, "shop")) == 1


def test_going_back_is_an_act_of_its_own(lab: Lab) -> None:
    for manifest in (OLD, NEW):
        register.register(lab.ledger, manifest)
    done = register.deploy_version(lab.ledger, "shop", 1, "ann")
    assert (done.current, done.changed, done.before) == (True, True, 2)
    assert (current(lab), rule(lab)) == (OLD.hash, "0 7 * * *")
    assert not register.register(lab.ledger, NEW).current, "the version that was taken back stays back"
    assert register.deploy(lab.ledger, NEW, "ann").changed
    assert not register.deploy(lab.ledger, NEW, "ann").changed
    assert [event.facts["by"] for event in reads.events.of_flow(lab.ledger, "shop")] == ["somebody", "ann", "ann"]  # type: ignore[index, call-overload]
    with pytest.raises(NotFound, match="has no version 7"):
        register.deploy_version(lab.ledger, "shop", 7, "ann")
    with pytest.raises(FlowNotFound, match="did you mean `shop`"):
        register.deploy_version(lab.ledger, "shopp", 1, "ann")


def test_a_client_replaces_nothing(lab: Lab) -> None:
    """Its version is kept, and a worker that has it too may make it current later: a deploy of the web app first."""
    register.register(lab.ledger, OLD, "w1")
    done = register.keep(lab.ledger, NEW, "web")
    assert (done.ordinal, done.current, done.changed) == (2, False, False)
    assert (current(lab), rule(lab)) == (OLD.hash, "0 7 * * *")
    assert register.register(lab.ledger, NEW, "w2").changed
    assert current(lab) == NEW.hash
    (row,) = lab.rows("SELECT registered_by FROM flow_definition_versions WHERE hash = %s", NEW.hash)
    assert row["registered_by"] == "web"


def test_the_first_version_of_a_flow_is_current_whoever_brings_it(lab: Lab) -> None:
    done = register.keep(lab.ledger, OLD, "web")
    assert (done.ordinal, done.current, done.changed) == (1, True, True)
    assert rule(lab) == "0 7 * * *"


def test_a_pinned_start_has_its_own_version_and_leaves_the_others_theirs(lab: Lab) -> None:
    register.register(lab.ledger, OLD)
    register.keep(lab.ledger, NEW)
    (own,) = start_run.start(lab.ledger, [StartRequest("shop", version=NEW.hash)])
    (named,) = start_run.start(lab.ledger, [StartRequest("shop")])
    both = start_run.start(lab.ledger, [StartRequest("shop"), StartRequest("shop", version=NEW.hash)])
    assert [keys(lab, one.run_id) for one in (own, named, *both)] == [["a", "b"], ["a"], ["a"], ["a", "b"]]
    lab.do(own.run_id, "a", "b")
    with pytest.raises(NotFound):
        start_run.start(lab.ledger, [StartRequest("shop", version="0" * 64)])
    switch.disable(lab.ledger, "shop", "ann")
    with pytest.raises(FlowDisabled):
        start_run.start(lab.ledger, [StartRequest("shop", version=NEW.hash)])
    for one in (named, *both):
        lab.do(one.run_id, "a")
    lab.do(both[1].run_id, "b")


def keys(lab: Lab, run_id: UUID) -> list[str]:
    return [step.key for step in reads.steps.page(lab.ledger, run_id)]


def test_versions_that_an_older_release_keeps_are_counted_on(lab: Lab) -> None:
    """It inserts without the new columns, and replaces what is current."""
    register.register(lab.ledger, OLD)
    lab.execute(
        "INSERT INTO flow_definition_versions (hash, flow, version, manifest) VALUES (%s, 'shop', '1', %s)",
        NEW.hash,
        NEW.to_json(),
    )
    lab.execute("UPDATE flow_definitions SET manifest_hash = %s", NEW.hash)
    third = version("c")
    assert register.register(lab.ledger, third).ordinal == 3
    ordinals = lab.rows("SELECT hash, ordinal FROM flow_definition_versions ORDER BY ordinal")
    assert [(row["hash"], row["ordinal"]) for row in ordinals] == [(OLD.hash, 1), (NEW.hash, 2), (third.hash, 3)]


def test_two_versions_that_start_together_agree_on_one(lab: Lab) -> None:
    """One of them is current, the other was superseded or never current; ordinals are 1 and 2."""
    for _ in range(10):
        lab.reset()
        other = lab.another()
        mine, theirs = race(
            lambda: register.register(lab.ledger, OLD), lambda ledger=other: register.register(ledger, NEW)
        )
        other.close()
        assert {mine.ordinal, theirs.ordinal} == {1, 2}
        winner = {OLD.hash: mine, NEW.hash: theirs}[current(lab)]
        assert winner.changed
        assert rule(lab) == {OLD.hash: "0 7 * * *", NEW.hash: "0 9 * * *"}[current(lab)]
        rows = lab.rows("SELECT hash FROM flow_definition_versions WHERE superseded_at IS NULL")
        assert [row["hash"] for row in rows] == [current(lab)]


def test_two_clients_with_the_first_two_versions_agree_on_one(lab: Lab) -> None:
    for _ in range(10):
        lab.reset()
        other = lab.another()
        mine, theirs = race(lambda: register.keep(lab.ledger, OLD), lambda ledger=other: register.keep(ledger, NEW))
        other.close()
        assert sorted([mine.changed, theirs.changed]) == [False, True]
        assert {mine.ordinal, theirs.ordinal} == {1, 2}
        assert mine.current is (current(lab) == OLD.hash)


# ---- what a newer release wrote ----


def newer(lab: Lab, run_id: UUID | None = None) -> str:
    """A version of a newer release: of the next format, with a field that nobody here knows."""
    lab.execute(
        "INSERT INTO flow_definition_versions (hash, flow, version, manifest, format)"
        " SELECT %s, flow, '2', jsonb_set(manifest::jsonb, '{steps,a,when}', '\"x\"')::json, %s"
        "   FROM flow_definition_versions WHERE hash = %s",
        "f" * 64,
        FORMAT + 1,
        OLD.hash,
    )
    if run_id is not None:
        lab.execute("UPDATE flow_runs SET manifest_hash = %s WHERE id = %s", "f" * 64, run_id)
    return "f" * 64


def test_a_manifest_of_a_newer_format_is_told_by_its_number(lab: Lab) -> None:
    register.register(lab.ledger, OLD)
    with pytest.raises(ManifestUnreadable, match=f"has format {FORMAT + 1}, and this release reads up to {FORMAT}"):
        lab.ledger.plan(newer(lab))
    with lab.ledger.auto() as tx:
        from orchestrator.ledger import definitions

        assert definitions.unreadable(tx) == ["f" * 64]


def test_a_manifest_that_cannot_be_read_is_unreadable_whatever_its_format(lab: Lab) -> None:
    register.register(lab.ledger, OLD)
    lab.execute("UPDATE flow_definition_versions SET format = 1 WHERE hash = %s", newer(lab))
    with pytest.raises(ManifestUnreadable, match=r"cannot be read by this release: steps\.a\.when"):
        lab.ledger.plan("f" * 64)


def test_a_step_of_another_version_is_neither_claimed_nor_counted(lab: Lab) -> None:
    """The caller says which versions it can run; the message is for somebody else."""
    register.register(lab.ledger, OLD)
    run_id = lab.start("shop")
    found = claim_step.claim(lab.ledger, run_id, "a", 1, Claimant("w1", LEASE, [NEW.hash]))
    assert found == UnknownVersion(OLD.hash)
    (row,) = lab.rows("SELECT suppressed FROM flow_step_dispatches")
    assert row["suppressed"] == 0
    assert lab.statuses(run_id) == {"a": StepStatus.READY}
    assert claim_step.claim(lab.ledger, run_id, "a", 9, Claimant("w1", LEASE, [OLD.hash])) is None
    lease = claim_step.claim(lab.ledger, run_id, "a", 1, Claimant("w1", LEASE, [NEW.hash, OLD.hash]))
    assert isinstance(lease, Lease)
    lab.done(lease)


def test_explain_says_that_a_newer_release_wrote_the_version(unaudited_lab: Lab) -> None:
    lab = unaudited_lab
    register.register(lab.ledger, OLD)
    run_id = lab.start("shop")
    newer(lab, run_id)
    for key in (None, "a"):
        said = explain.explain(lab.ledger, run_id, key).sentence
        assert f"is pending. More is not known here: The manifest ffffffffffff has format {FORMAT + 1}" in said


def test_explain_tells_apart_who_fits_who_may_fit_and_a_version_that_was_never_current(lab: Lab) -> None:
    """`1 worker`, in the singular; and nothing that was never there is missing "any more"."""
    register.register(lab.ledger, NEW)
    register.keep(lab.ledger, OLD)
    ours, theirs = (
        start_run.start(lab.ledger, [StartRequest("shop", version=one.hash)])[0].run_id for one in (NEW, OLD)
    )
    redispatch.confirm(lab.ledger, [Dispatch(run, "a", 1, "shop.work", "default", 5) for run in (ours, theirs)])
    hello(lab, "shop.work")

    def said(run_id: UUID) -> str:
        return explain.explain(lab.ledger, run_id, "a").sentence

    assert said(ours).endswith("behind 0 other steps, for 1 worker.")
    assert f"behind 1 other step, for 1 worker. No worker's own code has version {OLD.hash[:12]}" in said(theirs)
    register.deploy(lab.ledger, OTHER)
    hello(lab)
    assert "was never the current one, and the current one has no step of type `work`" in said(theirs)
    assert "has no step of type `work` any more" in said(ours)


def newer_is_due(lab: Lab) -> datetime:
    """A newer release has made its version current; a time of its schedule has come."""
    register.register(lab.ledger, OLD)
    lab.execute("UPDATE flow_definitions SET manifest_hash = %s", newer(lab))
    lab.execute(
        "UPDATE flow_schedule_states SET next_tick_at = date_trunc('second', flow_now() - interval '1 min'),"
        " due_at = date_trunc('second', flow_now() - interval '1 min')"
    )
    (row,) = lab.rows("SELECT next_tick_at FROM flow_schedule_states")
    due: datetime = row["next_tick_at"]
    return due


def test_a_schedule_of_a_newer_version_is_left_to_a_newer_release(
    unaudited_lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither decided nor failed nor postponed, and it does not hold up others; whoever leads is told that somebody
    else should. A beat's hint may reach any worker."""
    lab = unaudited_lab
    due = newer_is_due(lab)
    before = lab.rows("SELECT * FROM flow_schedule_states")
    fired = tick.fire(lab.ledger, by="watchdog")
    assert (fired.decided, fired.more, fired.unreadable) == (0, False, True)
    assert tick.decide_announced(lab.ledger, {("shop", "daily"): due}, by="beat").fired == Fired()
    assert lab.rows("SELECT * FROM flow_schedule_states") == before
    assert lab.rows("SELECT * FROM flow_schedule_ticks") == []
    assert caplog.records == []
    lab.execute("UPDATE flow_schedule_states SET due_at = flow_now() + interval '1 h'")
    assert tick.fire(lab.ledger, by="watchdog") == Fired()


def test_a_tick_is_left_to_the_release_that_registers_while_it_is_decided(
    unaudited_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule was read before, and its start finds a version that it cannot read: that does not count as its
    failure."""
    lab = unaudited_lab
    register.register(lab.ledger, OLD)
    past = "flow_now() - interval '1 min'"
    lab.execute(f"UPDATE flow_schedule_states SET next_tick_at = {past}, due_at = {past}")
    before = lab.rows("SELECT * FROM flow_schedule_states")
    original = tick.carry_out

    def late(*given: Any) -> Fired:
        lab.execute("UPDATE flow_definitions SET manifest_hash = %s", newer(lab))
        return original(*given)

    monkeypatch.setattr(tick, "carry_out", late)
    assert tick.fire(lab.ledger, by="watchdog").decided == 0
    assert lab.rows("SELECT * FROM flow_schedule_states") == before


@pytest.mark.parametrize("waits", ["queued", "backfill"])
def test_what_waits_for_a_newer_release_fails_nowhere(
    unaudited_lab: Lab, waits: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A tick that is queued behind a run, and the times of a backfill: they were an error in each sweep."""
    lab = unaudited_lab
    register.register(lab.ledger, OLD)
    if waits == "queued":
        lab.execute(
            "INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, by)"
            " VALUES ('shop', 'daily', date_trunc('second', flow_now()), 'cron', 'queued', 'beat')"
        )
    else:
        now = lab.now().replace(microsecond=0)
        operate.backfill(lab.ledger, "shop", "daily", Span(now - timedelta(days=3), now), by="ann")
    lab.execute("UPDATE flow_definitions SET manifest_hash = %s", newer(lab))
    assert tick.waiting(lab.ledger) == Fired()
    assert tick.fire(lab.ledger, by="watchdog").unreadable
    assert caplog.records == []
    lab.execute("UPDATE flow_definitions SET manifest_hash = %s", OLD.hash)
    assert tick.waiting(lab.ledger).decided == 1
