"""Options that several commands share."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from orchestrator.cli.render import Format, note
from orchestrator.core.access import Actor
from orchestrator.core.durations import parse_duration
from orchestrator.errors import DurationInvalid, UsageError
from orchestrator.settings import variable

if TYPE_CHECKING:
    from orchestrator.authoring.flow import Flow
    from orchestrator.client import (
        Client,
        HttpClient,
        HttpRunHandle,
        OperationHandle,
        RunHandle,
        ScheduleHandle,
    )
    from orchestrator.client.remote.operations import HttpOperationHandle
    from orchestrator.client.remote.schedule import HttpScheduleHandle
    from orchestrator.settings import Settings

    # What commands work with: whichever it is, they do the same with it, and the type checker sees that they can.
    AnyClient: TypeAlias = Client | HttpClient
    AnyRun: TypeAlias = RunHandle[Any] | HttpRunHandle[Any]
    AnyOperation: TypeAlias = OperationHandle | HttpOperationHandle
    AnySchedule: TypeAlias = ScheduleHandle | HttpScheduleHandle

F = TypeVar("F", bound=Callable[..., object])

Output = Annotated[
    Format | None, typer.Option("-o", "--output", help="table (default), json or jsonl.", metavar="FORMAT")
]
FlowSources = Annotated[
    str | None,
    typer.Option("--flows", help="Modules or .py files with flows, comma separated; else ORCHESTRATOR_FLOWS."),
]
HealthAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Where to answer probes, as :8081 or 127.0.0.1:8081; else ORCHESTRATOR_HEALTH_ADDRESS, else nowhere.",
    ),
]
RunId = Annotated[str, typer.Argument(metavar="ID", help="A run's id, or its last characters, at least four.")]
Who = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who does this, for the record; else your login.")
]
After = Annotated[int, typer.Option(min=0, help="Only events with a greater id.")]
Most = Annotated[int, typer.Option(min=1, max=100_000, help="At most this many.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only from this time on: 2h for two hours ago, or 2026-11-01T07:00.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only before this time.")]
Query = Annotated[
    list[str] | None, typer.Argument(metavar="QUERY", help="Which runs, as `run ls` takes it; without, all.")
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="QUERY", help="A query, also one that begins with a minus.")
]
FlowName = Annotated[str, typer.Argument(metavar="FLOW", help="The name of a flow.")]


def group(help: str) -> typer.Typer:
    """A noun."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def settings_of_process(health_address: str | None) -> "Settings":
    """The settings of a process that runs until it is told to stop; the option wins over the environment.

    Raises:
        SettingsInvalid: one is wrong or missing.
    """
    from orchestrator.settings import Settings

    given = {} if health_address is None else {variable("health_address"): health_address}
    settings = Settings.from_env({**os.environ, **given})
    settings.require_database_url()
    settings.require_broker_url()
    return settings


def verb(app: typer.Typer, name: str, *aliases: str) -> Callable[[F], F]:
    """A command under its name, and hidden under others that people try."""

    def register(command: F) -> F:
        app.command(name)(command)
        for alias in aliases:
            app.command(alias, hidden=True)(command)
        return command

    return register


class _Notes(logging.Handler):
    """What the publisher logs, in words: the run is safe, only its messages wait."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "publish.failed":
            from orchestrator.servers.diagnosis import broker_fix

            reason = str(getattr(record, "error", "unknown"))
            later = "Nothing is lost: a worker's keeper sends them later."
            note(f"The broker did not take the messages ({reason}). {later} Fix: {broker_fix(reason)}")


def actor(name: str | None) -> Actor:
    """Who does this, for the audit: `--as`, else the login; from this machine."""
    from orchestrator.client.given import user

    return Actor(name or user())


@contextmanager
def connected() -> Iterator["AnyClient"]:
    """A client of the API that the environment names; else one for the servers that it names, or those of the
    `orchestrator dev` of this project."""
    here = settings()
    if here.api_url is None:
        with ledger_itself() as client:
            yield client
        return
    if here.database_url is not None:
        note(f"{variable('api_url')} and {variable('database_url')} are both set: the API is asked.")
    with far() as client:
        yield client


@contextmanager
def ledger_itself() -> Iterator["Client"]:
    """For what no API does: a client for the servers themselves.

    Raises:
        SettingsInvalid: there is no database URL.
    """
    from orchestrator.client import Client

    logging.getLogger("orchestrator").addHandler(_Notes())
    with Client(settings()) as client:
        yield client


def far() -> "HttpClient":
    """A client of the API that the environment names.

    Raises:
        UsageError: the package for HTTP is not installed.
    """
    try:
        from orchestrator.client.remote.client import HttpClient
    except ModuleNotFoundError as exc:
        if exc.name != "httpx2":
            raise
        raise UsageError(
            f"{variable('api_url')} is set, and the package for HTTP is not installed. "
            "Fix: pip install 'flow-orchestrator[http]'."
        ) from exc
    return HttpClient.from_env()


def settings() -> "Settings":
    """The settings that `connected` uses."""
    from orchestrator.servers.here import settings_here

    return settings_here(os.environ, Path.cwd())


def sources(given: str | None) -> tuple[str, ...]:
    """`--flows a,b` as names."""
    return tuple(name for part in (given or "").split(",") if (name := part.strip()))


def load(given: str | None) -> "dict[str, Flow[..., object]]":
    """The flows of `--flows`, or of the settings."""
    from orchestrator.authoring.discovery import load_flows

    return load_flows(sources(given) or settings().flows)


def load_one(given: str | None, name: str) -> "Flow[..., object] | None":
    """The flow of this name in `--flows`, or the step: by the name of its flow, or by its own if only one has it."""
    from orchestrator.authoring.alone import alone, by_name
    from orchestrator.authoring.discovery import load as load_all

    flows, steps = load_all(sources(given) or settings().flows)
    if name in flows:
        return flows[name]
    named, _ = by_name(steps)
    found = [step for key, step in named.items() if name in (key, step.type)]
    return alone(found[0]) if len(found) == 1 else None


def query_of(words: list[str] | None, where: str | None) -> str:
    """The query of `QUERY` and `--where` together."""
    return " ".join([*(words or ()), where or ""])


def seconds(text: str | None) -> float | None:
    """A duration option; None when it was not given."""
    return None if text is None else span(text).total_seconds()


def when(text: str | None) -> datetime | None:
    """A moment: a length of time ago, or a date and time, of this machine's zone unless it has an offset.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        return datetime.now(UTC) - span(text)
    except DurationInvalid:
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a time. Fix: write 2h (two hours ago), 2026-11-01 or 2026-11-01T07:00."
        ) from None


def moment(text: str | None) -> timedelta | datetime | None:
    """When to begin: in a length of time, or at a date and time, of this machine's zone unless it has an offset.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        return span(text)
    except DurationInvalid:
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is neither a length of time nor a time. Fix: write 10m or 2026-11-01T07:00."
        ) from None


def span(text: str) -> timedelta:
    """`30s`, `5m`, plain seconds."""
    return parse_duration(text)
