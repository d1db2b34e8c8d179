"""`orchestrator schedule`: what is said, what is changed, what is refused."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.engine.schedules import tick
from tests.cli.conftest import Cli
from tests.cli.ways import Author
from tests.support.factories import Lab
from tests.support.row_counts import Counted
from tests.support.scheduled_flows import report, second, twice

NAME = "report/nightly"


@pytest.fixture
def flows(stack: Client) -> Client:
    """Three flows with schedules, beside two without."""
    for one in (report, twice, second):
        register.register(stack.ledger, one.manifest)
    return stack


@pytest.fixture
def lab(flows: Client, db_url: str) -> Iterator[Lab]:
    """The clock of the same ledger."""
    made = Lab(db_url, flows.ledger)
    yield made
    made.connection.close()


def test_ls_lists_rules_states_and_times(cli: Cli, flows: Client) -> None:
    rows = {f"{row['flow']}/{row['trigger_key']}": row for row in cli("schedule", "ls", "-o", "json").json}
    assert set(rows) == {NAME, "second/tick", "twice/cron", "twice/every"}
    assert rows[NAME]["rule"] == "30 2 * * * Europe/Paris"
    assert rows["twice/every"]["rule"] == "every 1h"
    assert {row["state"] for row in rows.values()} == {"on"}
    table = cli("schedule", "list", "twice").out.splitlines()
    assert table[0].split()[:4] == ["schedule", "rule", "state", "next"]
    assert [line.split()[0] for line in table[1:]] == ["twice/cron", "twice/every"]
    assert len(cli("schedule", "ls", "-o", "jsonl").out.splitlines()) == 4


def test_ls_without_schedules_says_how_to_get_one(cli: Cli, stack: Client) -> None:
    said = cli("schedule", "ls")
    assert said.out == ""
    assert "@flow(schedules=[" in said.err


def test_show_ends_with_why_and_when(cli: Cli, flows: Client) -> None:
    said = cli("schedule", "show", "report").out
    assert "For the board." in said
    assert re.search(r"rule: +30 2 \* \* \* Europe/Paris\n", said)
    assert re.search(r"jitter: +10m\n", said)
    assert re.search(r"missed: +latest, not older than 2h\n", said)
    assert re.search(r'input: +{"region": "us"}\n', said)
    *_, sentence, following = said.splitlines()
    assert re.fullmatch(
        r"Schedule report/nightly has not fired yet, because no time of it has come; it fires next "
        r"\d{4}-\d\d-\d\d 0[23]:[03]0 Europe/Paris \(0[01]:[03]0 UTC\), in \d+ \w+, \d+ \w+ later by its jitter\.",
        sentence,
    )
    assert following == "Next: orchestrator schedule preview report/nightly"
    shown = cli("schedule", "get", NAME, "-o", "json").json
    assert (shown["sentence"], shown["overridden"], shown["lag"]["count"]) == (sentence, False, 0)


def test_show_says_how_late_it_is_and_what_became_of_ticks(cli: Cli, flows: Client, lab: Lab) -> None:
    lab.forward(timedelta(hours=1))
    fired = tick.decide_announced(flows.ledger, {("twice", "every"): None}, by="watchdog").fired
    assert len(fired.started) == 1
    said = cli("schedule", "show", "twice/every").out
    assert re.search(r"fired: +1\n", said)
    assert re.search(r"lag p50, p99: +.* of 1 tick\n", said)
    assert f"as run {fired.started[0]} (pending); it fires next" in said
    assert f"Next: orchestrator run explain {fired.started[0]}" in said
    (row,) = cli("schedule", "history", "twice/every", "-o", "json").json
    assert (row["outcome"], row["kind"], row["by"], row["run_id"]) == (
        *("started", "cron", "watchdog"),
        str(fired.started[0]),
    )
    assert str(fired.started[0])[-12:] in cli("schedule", "history", "twice/every").out
    shown = cli("run", "show", str(fired.started[0])).out
    assert re.search(r"^schedule: +twice/every$", shown, re.MULTILINE)
    assert re.search(r"^scheduled for: +\d{4}-", shown, re.MULTILINE)
    assert "idempotency key" not in shown


def test_preview_shows_the_wall_and_utc(cli: Cli, flows: Client) -> None:
    fires = cli("schedule", "preview", "report", "-n", "400", "-o", "json").json
    assert len(fires) == 400
    notes = {fire["note"] for fire in fires if fire["note"]}
    assert len(notes) == 2
    assert any(re.fullmatch(r"02:30 does not exist on \d{4}-03-\d\d, fires at 03:00", note) for note in notes)
    assert "02:30 comes twice, fires the first time only" in notes
    for fire in fires:
        at, wall, due = (datetime.fromisoformat(fire[name]) for name in ("at", "wall", "due"))
        assert at == wall
        assert timedelta(0) <= due - at < timedelta(minutes=10)
    table = cli("schedule", "preview", "report", "-n", "3").out.splitlines()
    assert re.split(r" {2,}", table[0]) == ["Europe/Paris", "UTC", "due (UTC)", "in", "note"]
    assert len(table) == 4
    assert re.split(r" {2,}", cli("schedule", "preview", "twice/cron").out.splitlines()[0])[0] == "UTC"


def test_a_schedule_that_cannot_be_read_here_hides_no_other(cli: Cli, flows: Client, lab: Lab) -> None:
    """A newer release wrote it, or this machine's zones are old."""
    lab.execute(
        """UPDATE flow_schedule_states
              SET definition = '{"type": "cron", "expression": "0 7 * * *", "zone": "Mars/Base"}'
            WHERE flow = 'report'"""
    )
    rows = {row["flow"]: row["rule"] for row in cli("schedule", "ls", "-o", "json").json}
    assert rows["report"] == "0 7 * * * Mars/Base (cannot be read here)"
    assert rows["second"] == "every 1s"
    assert "Mars/Base" in cli("schedule", "ls").out
    said = cli("schedule", "show", NAME)
    assert "no time zone `Mars/Base`" in said.out
    assert "tzdata" in said.out
    span = ("--from", "2025-03-01", "--to", "2025-03-02")
    for arguments in (["preview", NAME], ["backfill", NAME, *span], ["set-cron", NAME, "0 8 * * *"], ["trigger", NAME]):
        assert "Mars/Base" in cli("schedule", *arguments, code=2).err
    cli("schedule", "pause", NAME)
    cli("schedule", "history", NAME)


def test_pause_and_resume(cli: Cli, author: Author, flows: Client, lab: Lab) -> None:
    said = cli("schedule", "pause", NAME, "--reason", "bad data", *author.by("ann"))
    assert said.out == f"{NAME}  paused\n"
    assert "it does not fire: paused" in said.err
    shown = cli("schedule", "show", NAME).out
    assert f"by {author.recorded('ann')}: bad data" in shown
    assert f"because {author.recorded('ann')} paused it" in shown
    assert "(bad data)" in shown
    assert f"Next: orchestrator schedule resume {NAME}" in shown
    assert "while it is paused" in cli("schedule", "preview", NAME).err
    lab.forward(timedelta(days=3))
    assert tick.decide_announced(flows.ledger, {("report", "nightly"): None}, by="test").fired.decided == 0
    assert "next fire" in cli("schedule", "resume", NAME).err
    assert cli("schedule", "show", NAME, "-o", "json").json["state"] == "on"
    assert tick.decide_announced(flows.ledger, {("report", "nightly"): None}, by="test").fired.decided == 0


def test_set_cron_and_reset(cli: Cli, author: Author, flows: Client) -> None:
    said = cli("schedule", "set-cron", NAME, "0 8 * * 1-5", *author.by("ann"))
    assert said.out == f"{NAME}  overridden\n"
    assert said.err.startswith("0 8 * * 1-5 Europe/Paris (override); next fire ")
    shown = cli("schedule", "show", NAME).out
    assert re.search(r"rule of the code: +30 2 \* \* \* Europe/Paris\n", shown)
    assert re.search(rf"overridden: +.* ago by {author.recorded('ann')}\n", shown)
    cli("schedule", "set-cron", NAME, "0 9 * * *", "--zone", "Asia/Tokyo")
    assert cli("schedule", "show", NAME, "-o", "json").json["rule"] == "0 9 * * * Asia/Tokyo"
    assert cli("schedule", "reset", NAME, "-o", "json").json["rule"] == "30 2 * * * Europe/Paris"
    cli("schedule", "set-cron", "twice/every", "*/5 * * * *")
    assert cli("schedule", "ls", "twice", "-o", "json").json[1]["rule"] == "*/5 * * * * UTC"


def test_events_say_who_changed_what(cli: Cli, author: Author, flows: Client) -> None:
    cli("schedule", "pause", NAME, "--reason", "bad data", *author.by("ann"))
    cli("schedule", "resume", NAME, *author.by("bob"))
    rows = cli("schedule", "events", NAME, "-o", "json").json
    assert [(row["type"], row["facts"]["actor"]) for row in rows[-2:]] == [
        ("schedule.paused", author.recorded("ann")),
        ("schedule.resumed", author.recorded("bob")),
    ]
    assert "bad data" in cli("schedule", "events", NAME).out
    assert cli("schedule", "events", NAME, "--after", str(rows[-2]["id"]), "-o", "json").json == rows[-1:]
    assert "Fix:" in cli("schedule", "events", "report/nightli", code=3).err


def test_trigger_starts_a_run_with_the_schedules_input(cli: Cli, flows: Client) -> None:
    run_id = cli("schedule", "trigger", NAME).out.strip()
    assert flows.run(run_id).row().body == {"region": "us"}
    assert UUID(cli("schedule", "trigger", "report", "-o", "json").json["id"]) != UUID(run_id)
    assert {row["kind"] for row in cli("schedule", "history", NAME, "-o", "json").json} == {"manual"}
    cli("flow", "disable", "report", "--reason", "moving house")
    assert "moving house" in cli("schedule", "trigger", NAME, code=7).err
    assert "moving house" in cli("schedule", "show", NAME).out


def test_backfill_lists_starts_and_is_taken_back(cli: Cli, author: Author, flows: Client) -> None:
    span = ["--from", "2025-03-29", "--to", "2025-04-02"]
    dry = cli("schedule", "backfill", NAME, *span, "--dry-run", "--max-parallel", "2")
    assert "read in Europe/Paris" in dry.err
    assert "2025-03-29 is 2025-03-28T23:00Z" in dry.err
    assert "4 runs would be started, 2 at a time" in dry.err
    assert [line.split()[1:3] for line in dry.out.splitlines()[1:]] == [
        ["2025-03-29", "02:30:00"],
        ["2025-03-30", "03:00:00"],
        ["2025-03-31", "02:30:00"],
        ["2025-04-01", "02:30:00"],
    ]
    assert cli("schedule", "history", NAME).out == ""
    made = cli("schedule", "backfill", NAME, *span, "--reverse", *author.by("ann"), "-o", "json").json
    assert [at[:10] for at in made["times"]] == ["2025-04-01", "2025-03-31", "2025-03-30", "2025-03-29"]
    assert len(tick.waiting(flows.ledger).started) == 1
    rows = cli("schedule", "history", NAME, "-o", "jsonl").out.splitlines()
    assert [json.loads(row)["outcome"] for row in rows] == ["started", "pending", "pending", "pending"]
    said = cli("schedule", "backfill", NAME, "--cancel", made["id"])
    assert said.err == "3 runs will not be started; those that are open go on.\n"
    again = cli("schedule", "backfill", NAME, "--from", "2025-03-31T00:00Z", "--to", "2025-04-02T00:00Z", "--dry-run")
    assert "1 more have a run" in again.err
    assert "read in" not in again.err


BAD: list[tuple[list[str], int, str]] = [
    (["show", "reprot"], 3, "did you mean `report`?"),
    (["ls", "reprot"], 3, "did you mean `report`?"),
    (["show", "report/nightli"], 3, "did you mean `nightly`?"),
    (["show", "report/a/b"], 3, "nightly"),
    (["show", "report/"], 3, "nightly"),
    (["show", "hello"], 3, "has no schedule"),
    (["show", "twice"], 2, "twice/cron, twice/every"),
    (["pause", "twice"], 2, "name one of them"),
    (["resume", "reprot/nightly"], 3, "did you mean `report`?"),
    (["trigger", "report/x"], 3, "nightly"),
    (["history", "report", "--limit", "0"], 2, "--limit"),
    (["preview", "report", "-n", "0"], 2, "-n"),
    (["set-cron", "report", "0 25 * * *"], 2, "hour"),
    (["set-cron", "report", "0 7 * *"], 2, "write five"),
    (["set-cron", "report", "0 0 30 2 *"], 2, "never fires"),
    (["set-cron", "report", "@dayly"], 2, "did you mean `@daily`?"),
    (["set-cron", "report", "0 7 * * *", "--zone", "Europe/Pariss"], 2, "did you mean `Europe/Paris`?"),
    (["set-cron", "report"], 2, "EXPRESSION"),
    (["set-cron", "twice", "0 7 * * *"], 2, "name one of them"),
    (["backfill", "report"], 2, "--from TIME and --to TIME"),
    (["backfill", "report", "--from", "2025-03-01"], 2, "--from TIME and --to TIME"),
    (["backfill", "report", "--from", "yesterday", "--to", "2025-03-01"], 2, "is not a date and time"),
    (["backfill", "report", "--from", "2025-03-02", "--to", "2025-03-01"], 2, "Fix:"),
    (["backfill", "report", "--from", "2025-03-01", "--to", "2025-03-01"], 2, "Fix:"),
    (["backfill", "report", "--from", "2025-03-01", "--to", "9999-12-31T23:59"], 2, "Fix:"),
    (["backfill", "report", "--from", "0001-01-01", "--to", "2025-03-01"], 2, "Fix:"),
    (
        ["backfill", "report", "--from", "2025-03-30T02:30", "--to", "2025-04-01"],
        2,
        "does not exist in Europe/Paris",
    ),
    (["backfill", "second", "--from", "2026-01-10", "--to", "2026-01-22"], 2, "10,000"),
    (["backfill", "second", "--from", "2026-01-10", "--to", "2026-01-22", "--dry-run"], 2, "10,000"),
    (
        ["backfill", "report", "--from", "2025-03-01", "--to", "2025-03-02", "--max-parallel", "0"],
        2,
        "--max-parallel",
    ),
    (["backfill", "report", "--cancel", "17"], 2, "not the id of a backfill"),
    (["backfill", "report", "--cancel", "00000000-0000-7000-8000-000000000000"], 3, "backfill"),
    (["show"], 2, "FLOW"),
    (["stop", "report"], 2, "stop"),
]


def test_bad_input_is_told_and_nothing_is_written(cli: Cli, flows: Client, counted: Counted) -> None:
    """On one database, because each of its own would take longer than all of these."""
    before, versions = counted(), {row.name: row.version for row in flows.schedules()}
    for arguments, code, message in BAD:
        said = cli("schedule", *arguments, code=code)
        assert message in said.err, arguments
        assert said.out == ""
        assert counted() == before, arguments
        assert {row.name: row.version for row in flows.schedules()} == versions, arguments


def test_a_backfill_of_a_million_times_is_counted(cli: Cli, flows: Client) -> None:
    for until, count in (("2026-01-21", "950,400"), ("2026-01-22", "1,000,000 ticks or more")):
        said = cli("schedule", "backfill", "second", "--from", "2026-01-10", "--to", until, code=2)
        assert f"holds {count}" in said.err
        assert len(said.err.splitlines()) == 1


def test_errors_are_of_one_line(cli: Cli, flows: Client) -> None:
    for arguments in (["show", "twice"], ["set-cron", "report", "x"], ["show", "reprot"]):
        assert len(cli("schedule", *arguments, code=None).err.splitlines()) == 1


def test_times_are_read_in_utc_when_the_rule_has_no_zone(cli: Cli, flows: Client) -> None:
    said = cli("schedule", "backfill", "twice/every", "--from", "2025-03-01", "--to", "2025-03-01T02:00", "--dry-run")
    assert said.out.splitlines() == ["UTC", "Sat 2025-03-01 00:00:00", "Sat 2025-03-01 01:00:00"]
    assert "read in" not in said.err
    assert datetime.now(UTC) > datetime(2025, 3, 1, tzinfo=UTC)
