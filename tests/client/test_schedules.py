"""What a program sees of schedules."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from orchestrator.client import Client
from orchestrator.client.aclient import AsyncClient
from orchestrator.client.schedule_handle import moment
from orchestrator.engine.flows import register
from orchestrator.errors import FlowNotFound, OrchestratorError, ScheduleInvalid, ScheduleNotFound, UsageError
from orchestrator.ledger import reads
from orchestrator.settings import Settings
from tests.support.row_counts import Counted
from tests.support.scheduled_flows import report, second, twice
from tests.support.small_flows import hello


@pytest.fixture
def flows(client: Client) -> Client:
    for one in (report, twice, second, hello):
        register.register(client.ledger, one.manifest)
    return client


def test_a_schedule_is_found_by_flow_and_key(flows: Client) -> None:
    handles = [
        flows.schedule(report),
        flows.schedule("report"),
        flows.schedule("report/nightly"),
        flows.schedule(report, "nightly"),
    ]
    assert {(handle.flow, handle.key) for handle in handles} == {("report", "nightly")}
    assert repr(handles[0]) == "<schedule report/nightly>"
    assert [row.name for row in flows.schedules(twice)] == ["twice/cron", "twice/every"]
    assert len(flows.schedules()) == 4
    assert flows.schedules("hello") == []


def test_a_flow_that_kept_one_of_its_schedules_needs_no_key(flows: Client) -> None:
    """What the code has no more is found by its key only."""
    triggers = {name: one for name, one in twice.manifest.triggers.items() if name != "cron"}
    register.register(flows.ledger, twice.manifest.model_copy(update={"triggers": triggers}))
    assert flows.schedule(twice).key == "every"
    assert not flows.schedule(twice, "cron").row().active


def test_everything_an_operator_does(flows: Client) -> None:
    handle = flows.schedule(report)
    handle.pause("bad data", by="ann")
    handle.pause("bad data", by="ann")
    row = handle.row()
    assert (row.paused_by, row.pause_reason, row.live) == ("ann", "bad data", False)
    handle.resume()
    handle.set_cron("0 8 * * *", zone="Asia/Tokyo")
    assert handle.row().expression == "0 8 * * *"
    assert handle.preview(1)[0].wall.hour == 8
    handle.reset()
    assert handle.row().expression is None
    run = handle.trigger()
    assert (run.created, run.row().body) == (True, {"region": "us"})
    made = handle.backfill("2025-03-01", datetime(2025, 3, 3, tzinfo=UTC))
    assert made.id is not None
    assert [at.isoformat() for at in made.times] == ["2025-03-01T01:30:00+00:00", "2025-03-02T01:30:00+00:00"]
    assert handle.cancel_backfill(made.id) == 2
    assert {tick.outcome for tick in handle.history()} == {"started", "cancelled"}
    assert handle.lag().count == 0
    assert "has not fired yet" in handle.explain().sentence


def test_each_act_is_an_event_with_the_actor(flows: Client) -> None:
    from orchestrator.core.schedule_ids import schedule_id

    handle = flows.schedule(report)
    handle.pause("bad data", by="ann")
    handle.resume(by="bob")
    handle.set_cron("0 8 * * *", by="cleo")
    handle.reset(by="dan")
    handle.trigger(by="eve")
    events = flows.call(reads.events.of_run, schedule_id("report", "nightly"))
    actors = [(event.type, event.facts["actor"]) for event in events if event.type != "schedule.registered"]  # type: ignore[index,call-overload]
    assert actors == [
        ("schedule.paused", "ann"),
        ("schedule.resumed", "bob"),
        ("schedule.cron_set", "cleo"),
        ("schedule.reset", "dan"),
        ("schedule.triggered", "eve"),
    ]


BAD: list[tuple[Callable[[Client], object], type[OrchestratorError]]] = [
    (lambda client: client.schedule("reprot"), FlowNotFound),
    (lambda client: client.schedules("reprot"), FlowNotFound),
    (lambda client: client.schedule("hello"), ScheduleNotFound),
    (lambda client: client.schedule("report", "x"), ScheduleNotFound),
    (lambda client: client.schedule("twice"), UsageError),
    (lambda client: client.schedule("report").preview(0), UsageError),
    (lambda client: client.schedule("report").history(limit=100_000), UsageError),
    (lambda client: client.schedule("report").set_cron("0 0 30 2 *"), ScheduleInvalid),
    (lambda client: client.schedule("report").set_cron("0 7 * * *", zone="Mars/Base"), ScheduleInvalid),
    (lambda client: client.schedule("report").set_cron("0 \0 * * *"), UsageError),
    (lambda client: client.schedule("report").pause("nul \0"), UsageError),
    (lambda client: client.schedule("report").pause("x", by="\ud800"), UsageError),
    (lambda client: client.schedule("report").backfill("2025-03-02", "2025-03-01"), UsageError),
    (lambda client: client.schedule("report").backfill("2025-03-01", "2225-03-01"), UsageError),
    (lambda client: client.schedule("report").backfill("soon", "2025-03-01"), UsageError),
    (lambda client: client.schedule("report").backfill("2025-03-01", "2025-03-02", max_parallel=0), UsageError),
    (lambda client: client.schedule("second").backfill("2026-01-01", "2026-01-20"), UsageError),
    (lambda client: client.schedule("report").cancel_backfill(uuid4()), ScheduleNotFound),
]


def test_bad_input_is_refused_and_nothing_is_written(flows: Client, counted: Counted) -> None:
    """On one database, because each of its own would take longer than all of these."""
    before, rows = counted(), [(row.name, row.version) for row in flows.schedules()]
    for given, error in BAD:
        with pytest.raises(error):
            given(flows)
        assert counted() == before
        assert [(row.name, row.version) for row in flows.schedules()] == rows


@pytest.mark.parametrize(
    ("given", "zone", "utc"),
    [
        ("2025-03-01", "Europe/Paris", "2025-02-28T23:00"),
        (date(2025, 3, 1), "Europe/Paris", "2025-02-28T23:00"),
        ("2025-03-01T07:00", "America/New_York", "2025-03-01T12:00"),
        ("2025-03-01T07:00Z", "America/New_York", "2025-03-01T07:00"),
        ("2025-03-01T07:00+01:00", "America/New_York", "2025-03-01T06:00"),
        ("2025-10-26T02:30", "Europe/Paris", "2025-10-26T00:30"),  # the first of two
        (datetime(2025, 3, 1, 7), "Europe/Paris", "2025-03-01T06:00"),  # noqa: DTZ001
    ],
)
def test_a_time_without_an_offset_is_read_in_the_zone(given: str | date, zone: str, utc: str) -> None:
    assert moment(given, zone) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_a_time_that_no_wall_shows_is_refused() -> None:
    with pytest.raises(UsageError, match="does not exist in Europe/Paris"):
        moment("2025-03-30T02:30", "Europe/Paris")
    with pytest.raises(UsageError, match="not a date"):
        moment("0001-01-01", "Asia/Tokyo")


def test_the_awaited_handle_does_the_same(settings: Settings) -> None:
    async def main() -> None:
        async with AsyncClient(settings) as client:
            await client.thread(client.sync.call, register.register, report.manifest)
            assert [row.name for row in await client.schedules()] == ["report/nightly"]
            handle = await client.schedule(report, "nightly")
            assert repr(handle) == "<schedule report/nightly>"
            await handle.pause("bad data")
            assert "bad data" in (await handle.explain()).sentence
            await handle.resume()
            await handle.set_cron("0 8 * * *")
            assert (await handle.row()).expression == "0 8 * * *"
            await handle.reset()
            fires = await handle.preview(2)
            assert fires[1].at - fires[0].at in {timedelta(hours=23), timedelta(hours=24), timedelta(hours=25)}
            run = await handle.trigger()
            assert (await run.row()).flow == "report"
            made = await handle.backfill("2025-03-01", "2025-03-02", dry_run=True)
            assert (made.id, len(made.times)) == (None, 1)
            real = await handle.backfill("2025-03-01", "2025-03-02")
            assert real.id is not None
            assert await handle.cancel_backfill(real.id) == 1
            assert len(await handle.history()) == 2
            assert (await handle.lag()).count == 0

    asyncio.run(main())
