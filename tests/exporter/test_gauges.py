"""What the exporter shows, and what it shows while the ledger does not answer."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from threading import Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from orchestrator.core.facts import WorkerInfo
from orchestrator.core.scaling import Group
from orchestrator.errors import DatabaseFailed, SchemaBehind, Unavailable
from orchestrator.exporter import exporter as exporters
from orchestrator.exporter.exporter import Exporter
from orchestrator.exporter.readings import MOST_SCHEDULES, lateness, of_most_flows
from orchestrator.ledger import workers
from orchestrator.ledger.gauges import Lateness
from orchestrator.observe.metrics.instruments import MAX_SERIES, Instruments
from orchestrator.observe.metrics.metric import Source
from orchestrator.settings import Settings
from tests.support.factories import Lab, after, call, loop, retry
from tests.support.proxy import Proxy

READ = (
    "flow_runs, flow_steps, flow_step_claims, flow_workers, flow_schedule_states, flow_definitions, "
    "flow_notifications, flow_idempotency_keys, flow_evidence"
)
"""What the documentation grants to a user of the exporter's own."""
Seen = dict[str, dict[tuple[str, ...], float]]


class Scraper:
    """An exporter beside a lab, whose clock the test moves."""

    def __init__(
        self,
        url: str,
        broker_url: str | None = None,
        groups: Mapping[str, Group] | None = None,
        read_url: str | None = None,
    ) -> None:
        self.now = 0.0
        self.instruments = Instruments([Source.EXPORTER])
        self.settings = Settings(
            database_url=SecretStr(url),
            broker_url=None if broker_url is None else SecretStr(broker_url),
            database_read_url=None if read_url is None else SecretStr(read_url),
            retention=timedelta(days=30),
            database_disk=10**11,
            scaling_groups=dict(groups or {}),
        )
        self.exporter = Exporter(self.settings, self.instruments, lambda: self.now)

    def scrape(self, later_s: float = 11.0) -> Seen:
        """By metric without its prefix, then by the values of its labels."""
        self.now += later_s
        seen: Seen = defaultdict(dict)
        for family in text_string_to_metric_families(self.instruments.render()[0].decode()):
            for sample in family.samples:
                name = sample.name.removeprefix("floworch_")
                seen[name][tuple(sample.labels.values())] = sample.value
        return seen


@pytest.fixture
def scraper_of() -> Iterator[Callable[..., Scraper]]:
    """Makes one for a URL; closed at the end."""
    with ExitStack() as stack:

        def made(*given: str, **more: Any) -> Scraper:
            scraper = Scraper(*given, **more)
            stack.callback(scraper.exporter.close)
            return scraper

        yield made


@pytest.fixture
def scraper(lab: Lab, scraper_of: Callable[..., Scraper]) -> Scraper:
    return scraper_of(lab.url)


def worker(lab: Lab, name: str, queues: tuple[str, ...], handlers: tuple[str, ...] = ("demo.work",)) -> None:
    with lab.ledger.tx() as tx:
        workers.hello(tx, WorkerInfo(f"h/{name}/r", "h", 1, "prefork", 4, 4, queues, handlers, "1", {}, {}))


def test_runs_stand_by_flow_and_status_with_their_age(lab: Lab, scraper: Scraper) -> None:
    lab.flow({"a": call(retry=retry(2, 600)), "b": after("a")})
    lab.start()
    lab.take(lab.start(), "a")
    waiting = lab.start()
    lab.fail(lab.take(waiting, "a"))
    ended = lab.start()
    lab.do(ended, "a", "b")
    lab.execute("UPDATE flow_runs SET created_at = created_at - interval '1 hour' WHERE id = %s", waiting)
    seen = scraper.scrape()
    assert seen["runs_active"] == {("demo", "pending"): 1, ("demo", "running"): 1, ("demo", "waiting"): 1}
    assert 3600 <= seen["runs_oldest_active_seconds"][("demo", "waiting")] < 3700
    assert seen["runs_oldest_active_seconds"][("demo", "running")] < 100
    assert seen["exporter_up"] == {(): 1}


def test_queues_say_what_is_ready_what_runs_and_what_nobody_takes(lab: Lab, scraper: Scraper) -> None:
    lab.flow({"a": call(queue="fast"), "b": call(queue="slow"), "c": call("rare", queue="fast")})
    for number in range(3):
        run_id = lab.start()
        if number == 0:
            lab.take(run_id, "a", owner="h/one/r/1")
    worker(lab, "one", ("fast",))
    seen = scraper.scrape()
    assert seen["queue_depth"] == {
        ("fast", "ready"): 5,
        ("fast", "running"): 1,
        ("fast", "due"): 0,
        ("slow", "ready"): 3,
        ("slow", "running"): 0,
        ("slow", "due"): 0,
    }
    assert seen["queue_unserved"] == {("fast",): 3, ("slow",): 3}
    assert seen["queue_workers"] == {("fast",): 1, ("slow",): 0}
    assert seen["lease_active_count"] == {("fast",): 1, ("slow",): 0}
    assert 0 < seen["queue_oldest_ready_seconds"][("slow",)] < 100


def test_what_is_due_and_was_not_made_ready_is_told_apart(lab: Lab, scraper: Scraper) -> None:
    run_id = lab.run({"a": call(retry=retry(2, 5))})
    lab.fail(lab.take(run_id, "a"))
    assert scraper.scrape()["queue_depth"] == {}
    lab.forward(10)
    assert scraper.scrape()["queue_depth"][("default", "due")] == 1


def test_groups_say_how_many_workers_they_need(lab: Lab, scraper_of: Callable[..., Scraper]) -> None:
    """With one connection, also where a version has to be read that nobody has read yet."""
    groups = {name: Group(queues=(name,), slots=2) for name in ("fast", "slow", "idle")}
    lab.flow({"nap": {"sleep": "10s"}, "a": after("nap", queue="slow"), "b": call(queue="fast")})
    for _ in range(3):
        lab.start()
    assert scraper_of(lab.url, groups=groups).scrape()["scaling_replicas"] == {("fast",): 2, ("slow",): 2, ("idle",): 0}


def test_workers_are_told_by_the_set_of_their_queues(lab: Lab, scraper: Scraper) -> None:
    worker(lab, "one", ("b", "a"))
    worker(lab, "two", ("a", "b"))
    worker(lab, "old", ("a",))
    worker(lab, "deaf", ("c",))
    lab.execute("UPDATE flow_workers SET seen_at = seen_at - interval '1 hour' WHERE id = 'h/old/r'")
    worker(lab, "keeper", (), ())
    lab.execute("UPDATE flow_workers SET pool = 'keeper', concurrency = 0 WHERE id = 'h/keeper/r'")
    early = "UPDATE flow_workers SET started_at = started_at - interval '1 hour' WHERE id = ANY (%s)"
    lab.execute(early, ["h/deaf/r", "h/keeper/r"])
    run_id = lab.run({"a": loop([1, 2, 3])})
    for index in (0, 1):
        lab.take(run_id, f"a.{index}.do", owner="h/one/r/1")
    seen = scraper.scrape()
    assert seen["workers_live"] == {("a,b",): 2, ("c",): 1, ("",): 1}
    assert seen["workers_slots"] == {("a,b",): 8, ("c",): 4, ("",): 0}
    assert seen["workers_slots_busy"] == {("a,b",): 2, ("c",): 0, ("",): 0}
    assert seen["workers_deaf"] == {("a,b",): 0, ("c",): 1, ("",): 0}, (
        "one that has just started had no time to hear anything"
    )


def test_what_is_gone_has_no_series_any_more(lab: Lab, scraper: Scraper) -> None:
    run_id = lab.run({"a": call()})
    assert scraper.scrape()["runs_active"] == {("demo", "pending"): 1}
    lab.do(run_id, "a")
    assert scraper.scrape()["runs_active"] == {}


def test_schedules_that_fire_say_how_late_they_are(lab: Lab, scraper: Scraper) -> None:
    lab.flow({"a": call()})
    for key, due, paused in (("ahead", "1 hour", "NULL"), ("late", "-2 minutes", "NULL"), ("off", "-1 day", "now()")):
        lab.execute(
            "INSERT INTO flow_schedule_states (flow, trigger_key, definition, next_tick_at, due_at, paused_at)"
            f" VALUES ('demo', '{key}', '{{}}', flow_now(), flow_now() + interval '{due}', {paused})"
        )
    seen = scraper.scrape()["cron_lag_seconds"]
    assert seen.keys() == {("demo", "ahead"), ("demo", "late")}
    assert seen[("demo", "ahead")] == 0
    assert 120 <= seen[("demo", "late")] < 200


def test_too_many_schedules_are_told_by_the_worst_of_each_flow() -> None:
    one_by_one = [Lateness("f", f"k{n}", n) for n in range(MOST_SCHEDULES)]
    assert len(lateness(one_by_one)) == MOST_SCHEDULES
    assert lateness([*one_by_one, Lateness("g", "k", 7)]) == {("f", "other"): MOST_SCHEDULES - 1, ("g", "other"): 7}


def test_flows_past_the_cap_are_told_together() -> None:
    values = {(f"f{n}", "running" if n % 2 else "waiting"): float(n) for n in range(10)}
    assert of_most_flows(values, 8, lambda one, two: one + two) == {
        **{key: n for key, n in values.items() if n >= 2},
        ("other", "running"): 1.0,
        ("other", "waiting"): 0.0,
    }


def test_ten_thousand_flows_leave_room_for_queues_and_workers(lab: Lab, scraper: Scraper) -> None:
    lab.execute(
        "INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_body, sinks_open)"
        " SELECT gen_random_uuid(), 'flow' || n, 'x', 'pending', '{}', 1 FROM generate_series(1, 10000) AS n"
    )
    worker(lab, "one", ("default",))
    seen = scraper.scrape()
    lab.execute("DELETE FROM flow_runs")
    assert sum(map(len, seen.values())) < MAX_SERIES / 2
    assert sum(seen["runs_active"].values()) == 10_000
    assert seen["workers_live"] == {("default",): 1}


def test_sizes_sessions_and_retention_are_told(lab: Lab, scraper: Scraper) -> None:
    run_id = lab.run({"a": call()})
    lab.do(run_id, "a")
    lab.execute("UPDATE flow_runs SET ended_at = ended_at - interval '40 days'")
    seen = scraper.scrape()
    assert seen["ledger_bytes"][("flow_runs",)] > 8192
    assert ("flow_runs",) in seen["ledger_rows"]
    assert seen["database_size_bytes"][()] > 1_000_000
    assert seen["database_size_limit_bytes"] == {(): 10**11}
    assert 2 <= seen["database_connections_used"][()] < seen["database_connections_limit"][()]
    assert seen["ledger_retention_seconds"] == {(): 30 * 86400}
    assert 40 * 86400 <= seen["ledger_oldest_ended_seconds"][()] < 40 * 86400 + 600


def test_a_run_whose_key_still_answers_is_not_behind(lab: Lab, scraper: Scraper) -> None:
    lab.flow({"a": call()})
    lab.do(lab.start(key="k"), "a")
    assert scraper.scrape()["ledger_oldest_ended_seconds"] == {}


def test_what_was_never_recorded_as_good_has_no_age(lab: Lab, scraper: Scraper) -> None:
    for kind, ok, ago in (("backup", True, "30 hours"), ("backup", False, "1 hour"), ("drill", False, "1 hour")):
        lab.execute(
            "INSERT INTO flow_evidence (kind, at, ok, facts, by)"
            f" VALUES ('{kind}', flow_now() - interval '{ago}', {ok}, '{{}}', 'test')"
        )
    seen = scraper.scrape()
    assert 30 * 3600 <= seen["backup_age_seconds"][()] < 30 * 3600 + 600
    assert seen["drill_age_seconds"] == {}


def test_a_beat_is_told_where_there_is_a_broker(lab: Lab, broker_url: str, scraper_of: Callable[..., Scraper]) -> None:
    from orchestrator.servers import redbeat

    scraper = scraper_of(lab.url, broker_url)
    assert scraper.scrape()["beats_live"] == {(): 0}
    with redbeat.client(scraper.settings) as client:
        client.set(redbeat.lock_key(scraper.settings), "h/1/r")
        assert scraper.scrape()["beats_live"] == {(): 1}
        client.delete(redbeat.lock_key(scraper.settings))


# ---- how it is kept ----


def test_a_look_is_kept_for_ten_seconds(lab: Lab, scraper: Scraper) -> None:
    run_id = lab.run({"a": call()})
    first = scraper.scrape()
    lab.do(run_id, "a")
    assert scraper.scrape(later_s=5)["runs_active"] == first["runs_active"]
    assert scraper.scrape(later_s=6)["runs_active"] == {}


def test_what_cannot_be_read_stands_as_it_was_seen_last_and_is_told(
    lab: Lab, scraper: Scraper, caplog: pytest.LogCaptureFixture
) -> None:
    worker(lab, "one", ("default",))
    lab.run({"a": call()})
    scraper.scrape()
    lab.execute("ALTER TABLE flow_step_claims RENAME TO away")
    try:
        lab.run({"a": call()})
        seen = scraper.scrape(later_s=20)
        assert seen["exporter_up"] == {(): 0}
        assert seen["exporter_age_seconds"] == {(): 20}
        assert seen["runs_active"] == {("demo", "pending"): 1}, "as it was"
        scraper.scrape()
    finally:
        lab.execute("ALTER TABLE away RENAME TO flow_step_claims")
    assert [record.reading for record in caplog.records if record.msg == "exporter.failed"] == [
        "queues",
        "runs",
        "workers",
    ], "once, not with each scrape"
    seen = scraper.scrape()
    assert (seen["exporter_up"], seen["exporter_age_seconds"]) == ({(): 1}, {(): 0})
    assert seen["runs_active"] == {("demo", "pending"): 2}


def test_a_gauge_that_costs_too_much_is_given_up(lab: Lab, scraper: Scraper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look goes on beside the scrape, which does not wait for it for ever."""
    scraper.scrape()
    monkeypatch.setattr(exporters, "PATIENCE_S", 0.2)
    with lab.holding("LOCK TABLE flow_notifications IN ACCESS EXCLUSIVE MODE"):
        seen = scraper.scrape()
        assert (seen["exporter_up"], seen["exporter_age_seconds"]) == ({(): 0}, {(): 11})
        monkeypatch.setattr(exporters, "PATIENCE_S", 30.0)
        seen = scraper.scrape()  # the look that began goes on, and ends with the statement's two seconds
        assert seen["exporter_up"] == {(): 0}
    assert scraper.scrape()["exporter_up"] == {(): 1}


def test_a_database_that_is_away_is_no_end(lab: Lab, scraper_of: Callable[..., Scraper]) -> None:
    proxy = Proxy(lab.url)
    scraper = scraper_of(proxy.url)
    worker(lab, "one", ("default",))
    scraper.exporter.check()
    assert scraper.scrape()["workers_live"] == {("default",): 1}
    proxy.close()
    lab.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orchestrator exporter'"
    )
    seen = scraper.scrape()
    assert seen["exporter_up"] == {(): 0}
    assert seen["workers_live"] == {("default",): 1}
    scraper.exporter.check()


def test_many_scrapes_at_once_cost_one_look(lab: Lab, scraper: Scraper, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = Exporter._look

    def counted(self: Exporter, *given: object) -> object:
        nonlocal looks
        looks += 1
        return look(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Exporter, "_look", counted)
    threads = [Thread(target=scraper.scrape, args=(0.001,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looks == 1


def test_what_costs_something_is_read_from_a_standby_while_it_does(
    lab: Lab, db_url: str, scraper_of: Callable[..., Scraper]
) -> None:
    """The other database stands for one that has not replayed the run yet."""
    lab.run({"a": call()})
    proxy = Proxy(db_url)
    scraper = scraper_of(lab.url, read_url=proxy.url)
    seen = scraper.scrape()
    assert seen["runs_active"] == {}, "as the standby has it"
    assert seen["queue_unserved"] == {("default",): 1}, "as it is"
    proxy.close()
    there = urlsplit(db_url).path.removeprefix("/")
    lab.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", there)
    seen = scraper.scrape()
    assert seen["exporter_up"] == {(): 1}
    assert seen["runs_active"] == {("demo", "pending"): 1}


# ---- rights ----


@pytest.fixture
def login(lab: Lab) -> Iterator[Callable[[str], str]]:
    """Makes a user with these rights; gives the URL."""
    parts = urlsplit(lab.url)

    def made(grants: str) -> str:
        lab.execute("CREATE ROLE scraping LOGIN PASSWORD 'x'")
        if grants:
            lab.execute(f"GRANT SELECT ON {grants} TO scraping")
        return urlunsplit(parts._replace(netloc=f"scraping:x@{parts.netloc.rpartition('@')[2]}"))

    yield made
    lab.execute("DROP OWNED BY scraping")
    lab.execute("DROP ROLE scraping")


def test_reading_nine_tables_is_enough(login: Callable[[str], str], scraper_of: Callable[..., Scraper]) -> None:
    scraper = scraper_of(login(READ))
    scraper.exporter.check()
    seen = scraper.scrape()
    assert seen["exporter_up"] == {(): 1}
    assert seen["database_connections_used"][()] >= 2, "also those of others"


def test_a_user_without_rights_is_told_at_the_start(
    login: Callable[[str], str], scraper_of: Callable[..., Scraper]
) -> None:
    with pytest.raises(DatabaseFailed, match=r"permission denied.*Fix: grant"):
        scraper_of(login("")).exporter.check()


def test_a_wrong_password_and_an_empty_database_are_told_at_the_start(
    lab: Lab, empty_db_url: str, scraper_of: Callable[..., Scraper]
) -> None:
    parts = urlsplit(lab.url)
    with pytest.raises(Unavailable, match="correct the user and the password"):
        scraper_of(urlunsplit(parts._replace(netloc=f"nobody:x@{parts.netloc.rpartition('@')[2]}"))).exporter.check()
    with pytest.raises(SchemaBehind, match="db upgrade"):
        scraper_of(empty_db_url).exporter.check()
