"""`orchestrator schedule`: when flows start by themselves, why one did not, and changing that."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from orchestrator.cli import runview, scheduleview
from orchestrator.cli.options import After, Most, Output, Who, connected, group, verb
from orchestrator.cli.render import Format, listing, note, print_json, say_if_more, short, table
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnySchedule

app = group("Schedules: list, explain, preview, pause, change, backfill.")

Name = Annotated[
    str, typer.Argument(metavar="FLOW[/KEY]", help="A schedule; the flow alone, when it has only one schedule.")
]


@verb(app, "ls", "list")
def ls(
    flow: Annotated[str | None, typer.Argument(metavar="[FLOW]", help="Only schedules of this flow.")] = None,
    output: Output = None,
) -> None:
    """List schedules: their rule, state, next and last time, counters."""
    with connected() as client:
        rows = client.schedules(flow)
    if output in (Format.JSON, Format.JSONL):
        print_json([scheduleview.plain(row) for row in rows], lines=output is Format.JSONL)
        return
    listing(
        rows,
        {
            "schedule": lambda row: row.name,
            "rule": scheduleview.rule,
            "state": scheduleview.state,
            "next": lambda row: row.next_tick_at if scheduleview.fires(row) else None,
            "last": lambda row: row.last_tick_at,
            "fired": lambda row: row.fired,
            "missed": lambda row: row.missed or "",
            "skipped": lambda row: row.skipped or "",
            "open runs": lambda row: row.open_runs or "",
        },
        output,
        empty='No flow has a schedule. Add one to its code: `@flow(schedules=[Cron("0 7 * * *")])`.',
    )


@verb(app, "show", "get", "explain")
def show(name: Name, output: Output = None) -> None:
    """Show a schedule, and say why it has not fired and when it will."""
    with connected() as client:
        handle = client.schedule(name)
        row, lag, told = handle.row(), handle.lag(), handle.explain()
    if output in (Format.JSON, Format.JSONL):
        plain = {**scheduleview.plain(row), "lag": asdict(lag), "sentence": told.sentence, "command": told.command}
        print_json(plain, lines=output is Format.JSONL)
        return
    scheduleview.show(row, lag, told)


@verb(app, "preview")
def preview(
    name: Name,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="How many fires.")] = 10,
    output: Output = None,
) -> None:
    """The next fires: in the schedule's zone, in UTC, and what a clock change does."""
    with connected() as client:
        handle = client.schedule(name)
        row, fires = handle.row(), handle.preview(count)
    if output in (Format.JSON, Format.JSONL):
        print_json([asdict(fire) for fire in fires], lines=output is Format.JSONL)
        return
    if stopped := scheduleview.stopped(row):
        note(f"It fires none of these while it is {stopped}.")
    if not fires:
        note(f"{row.name} will not fire again. Why: orchestrator schedule show {row.name}")
        return
    table(*scheduleview.fire_table(fires, jitter=any(fire.due != fire.at for fire in fires)))


@verb(app, "pause")
def pause(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for others to read.")] = "",
    by: Who = None,
    output: Output = None,
) -> None:
    """Stop firing until `resume`; survives restarts and deploys."""
    with connected() as client:
        handle = client.schedule(name)
        handle.pause(reason, by=by)
        _report(handle, "paused", output)


@verb(app, "resume")
def resume(name: Name, by: Who = None, output: Output = None) -> None:
    """Fire again, from the next time on: what the pause missed is not made up for."""
    with connected() as client:
        handle = client.schedule(name)
        handle.resume(by=by)
        _report(handle, "resumed", output)


@verb(app, "trigger")
def trigger(name: Name, by: Who = None, output: Output = None) -> None:
    """Start a run with the schedule's input now; print its id."""
    with connected() as client:
        handle = client.schedule(name)
        run = handle.trigger(by=by)
    if output in (Format.JSON, Format.JSONL):
        print_json({"id": run.id, "flow": handle.flow, "key": handle.key}, lines=output is Format.JSONL)
        return
    print(run.id)
    note(f"Follow it: orchestrator run watch {short(run.id)}")


@verb(app, "set-cron")
def set_cron(
    name: Name,
    expression: Annotated[str, typer.Argument(metavar="EXPRESSION", help="Five fields, such as '0 7 * * 1-5'.")],
    zone: Annotated[str | None, typer.Option(help="An IANA zone; else the one it has now.")] = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Override the expression of the code, until `reset`; survives restarts and deploys."""
    with connected() as client:
        handle = client.schedule(name)
        handle.set_cron(expression, zone=zone, by=by)
        _report(handle, "overridden", output)


@verb(app, "reset")
def reset(name: Name, by: Who = None, output: Output = None) -> None:
    """Remove the override: the rule of the code applies again."""
    with connected() as client:
        handle = client.schedule(name)
        handle.reset(by=by)
        _report(handle, "reset", output)


def _report(handle: "AnySchedule", done: str, output: Format | None) -> None:
    row = handle.row()
    if output in (Format.JSON, Format.JSONL):
        print_json(scheduleview.plain(row), lines=output is Format.JSONL)
        return
    print(f"{handle.flow}/{handle.key}  {done}")
    note(f"{scheduleview.rule(row)}; {scheduleview.next_words(row)}.")


@verb(app, "backfill")
def backfill(
    name: Name,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="The first time, such as 2026-11-01.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the times, start nothing.")] = False,
    max_parallel: Annotated[int, typer.Option(min=1, max=1000, help="How many of its runs may be open at once.")] = 1,
    reverse: Annotated[bool, typer.Option("--reverse", help="The newest first.")] = False,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="Start no more runs of this backfill.")] = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Start a run for every time of the rule in a span that has none yet.

    A time without an offset is read in the schedule's zone.
    """
    with connected() as client:
        handle = client.schedule(name)
        if cancel is not None:
            count = handle.cancel_backfill(_id(cancel), by=by)
            print(f"{cancel}  cancelled")
            note(f"{count} runs will not be started; those that are open go on.")
            return
        if since is None or until is None:
            raise UsageError("A backfill needs both ends of its span. Fix: give --from TIME and --to TIME.")
        zone = handle.zone()
        _say_how_times_are_read(zone, since, until)
        made = handle.backfill(since, until, max_parallel=max_parallel, reverse=reverse, dry_run=dry_run, by=by)
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(made), lines=output is Format.JSONL)
    elif dry_run:
        if made.times:
            table(*scheduleview.times_table(made.times, zone))
        taken = f"; {made.taken} more have a run" if made.taken else ""
        note(f"{_counted(len(made.times), 'run')} would be started, {max_parallel} at a time{taken}.")
    elif made.id is None:
        note(f"Nothing to start: of that span, {_counted(made.taken, 'time')} have a run already.")
    else:
        print(made.id)
        note(f"{_counted(len(made.times), 'run')}, {max_parallel} at a time; workers start them.")
        note(f"Follow them: orchestrator schedule history {handle.flow}/{handle.key}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _say_how_times_are_read(zone: str, *texts: str) -> None:
    from orchestrator.client.schedule_handle import moment

    read_as = {text: moment(text, zone) for text in texts}
    naive = [text for text in texts if datetime.fromisoformat(text.strip()).tzinfo is None]
    if naive and zone != "UTC":
        read = ", ".join(f"{text} is {read_as[text]:%Y-%m-%dT%H:%M}Z" for text in naive)
        note(f"Times without an offset are read in {zone}, the schedule's zone: {read}.")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not the id of a backfill. Fix: give the id that `schedule backfill` printed."
        ) from None


@verb(app, "history")
def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=9_999, help="At most this many.")] = 50,
    output: Output = None,
) -> None:
    """What became of each time, newest first."""
    with connected() as client:
        handle = client.schedule(name)
        ticks = handle.history(limit + 1)
    listing(
        ticks[:limit],
        {
            "scheduled": lambda tick: tick.scheduled_at,
            "kind": lambda tick: tick.kind,
            "outcome": lambda tick: tick.outcome if tick.count == 1 else f"{tick.outcome} ×{tick.count}",
            "run": lambda tick: short(tick.run_id) if tick.run_id else "",
            "lag": lambda tick: tick.lag,
            "decided": lambda tick: tick.decided_at,
            "by": lambda tick: tick.by,
        },
        output,
        empty="Nothing was decided yet.",
    )
    if len(ticks) > limit:
        note(f"The last {limit:,} are shown, and there are more. See more: --limit.")


@verb(app, "events")
def events(name: Name, after: After = 0, limit: Most = 1000, output: Output = None) -> None:
    """Who changed it and when, and what it missed, in order."""
    with connected() as client:
        handle = client.schedule(name)
        rows = handle.events(after=after, limit=limit)
        listing(rows, runview.OWN_EVENT_COLUMNS, output, empty="Nothing happened after that event.")
        say_if_more(rows, limit, lambda last: handle.events(after=last, limit=1))
