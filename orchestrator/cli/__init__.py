"""The command line: `orchestrator NOUN VERB`. Data goes to stdout; hints, progress and errors go to stderr.

Exit codes: 0 ok, 1 a run failed or a server is away, 2 usage or an input that does not fit the flow, 3 unknown flow,
run or schedule, 5 cancelled, 6 timed out waiting, 7 conflict, 130 interrupted.
"""

import signal
import sys
from typing import Any, Final, NoReturn

import typer

from orchestrator.cli import (
    api,
    approval,
    audit,
    db,
    deploy,
    dev,
    doctor,
    drain,
    export,
    exporter,
    flow,
    insight,
    key,
    notification,
    operation,
    queue,
    repair,
    run,
    scaling,
    schedule,
    smoke,
    subscription,
    user,
    webhook,
    worker,
)
from orchestrator.errors import OrchestratorError

_LINE: Final = "\n"
app: Final = typer.Typer(
    name="orchestrator",
    help="Durable flows of typed Python functions on Celery workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(flow.app, name="flow")
repair.add_to(run.app)
insight.add_to(run.app)
export.add_to(run.app)
app.add_typer(run.app, name="run")
app.add_typer(operation.app, name="operation")
app.add_typer(schedule.app, name="schedule")
app.add_typer(approval.app, name="approval")
app.add_typer(webhook.app, name="webhook")
app.add_typer(subscription.app, name="subscription")
app.add_typer(notification.app, name="notification")
app.add_typer(worker.app, name="worker")
app.add_typer(queue.app, name="queue")
app.add_typer(deploy.app, name="deploy")
app.add_typer(key.app, name="key")
app.add_typer(user.app, name="user")
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")
app.command("scaling")(scaling.scaling)
app.command("api")(api.api)
app.command("exporter")(exporter.exporter)
app.command("beat")(worker.beat)
app.command("keeper")(worker.keeper)
app.command("flower")(worker.flower)
app.command("dev")(dev.dev)
app.add_typer(smoke.evidence, name="evidence")
app.command("smoke")(smoke.smoke)
app.command("drain")(drain.drain)
app.command("resume")(drain.resume)
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Durable flows of typed Python functions on Celery workers."""
    if show:
        from importlib.metadata import version as installed

        print(installed("flow-orchestrator"))
        raise typer.Exit


def main() -> None:
    """The console script. Every error of ours is one or two lines and an exit code, never a traceback."""
    try:
        code = app(standalone_mode=False)
    except OrchestratorError as exc:
        _end(str(exc), exc.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", 128 + signal.SIGINT)
    except OSError as exc:
        from orchestrator.full_disk import FULL

        if exc.errno not in FULL:
            raise
        where = f" ({exc.filename})" if exc.filename else ""
        _end(f"{exc.strerror}{where}. Fix: make room there, and try again.", 1)
    except typer.Abort:
        _end("aborted: nothing was done", 1)
    except Exception as exc:
        if hasattr(exc, "format_message"):  # of the parser; its class has no public name
            _of_usage(exc)
        if not type(exc).__module__.startswith("sqlalchemy."):
            raise
        _end(_of_database(exc), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _of_usage(exc: Any) -> NoReturn:
    """In one line, as every other error; a group without a command shows its help."""
    if not str(exc.format_message()) or type(exc).__name__ == "NoArgsIsHelpError":
        exc.show()
        sys.exit(exc.exit_code)
    command = exc.ctx.command_path if getattr(exc, "ctx", None) is not None else "orchestrator"
    said = str(exc.format_message()).rstrip(".").replace("Value error, ", "")
    said += "" if said.endswith("?") else "."
    _end(f"{said} Fix: see `{command} --help`. [usage]", exc.exit_code)


def _of_database(exc: Exception) -> str:
    """In our words; the error itself spells out our SQL."""
    from sqlalchemy.exc import DBAPIError

    from orchestrator.cli.options import settings
    from orchestrator.servers.diagnosis import explained, one_line

    if isinstance(exc, DBAPIError):
        return str(explained(exc, settings().require_database_url()))
    return f"{one_line(exc)}. Fix: act on this message."


def _end(message: str, code: int) -> NoReturn:
    print(f"error: {''.join(c if c.isprintable() or c == _LINE else ' ' for c in message)}", file=sys.stderr)
    sys.exit(code)
