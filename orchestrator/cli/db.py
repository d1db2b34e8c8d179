"""`orchestrator db`: the schema of the ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Output, group, ledger_itself, settings, verb
from orchestrator.cli.render import Format, note, print_json

if TYPE_CHECKING:
    from orchestrator.core.reach import Reach

app = group("The schema of the ledger.")


@contextmanager
def _database() -> "Iterator[tuple[str, Reach]]":
    """The URL for the owner of the schema, and how it is used; a failure to reach it becomes an error of ours."""
    from sqlalchemy.exc import DBAPIError

    from orchestrator.servers.diagnosis import explained

    direct = settings().direct()
    try:
        yield direct
    except DBAPIError as exc:
        raise explained(exc, direct[0]) from exc


@verb(app, "upgrade")
def upgrade() -> None:
    """Bring the schema to this release. Does nothing when it is there already."""
    from orchestrator.ledger import migrate

    with _database() as direct:
        before = migrate.current(*direct)
        migrate.upgrade(*direct)
    there = migrate.suffices(before)
    note(
        f"The schema is at {before} already." if there else f"Upgraded from {before or 'nothing'} to {migrate.head()}."
    )


@verb(app, "current")
def current(output: Output = None) -> None:
    """Print the revision of the schema, and the one that this release needs."""
    from orchestrator.ledger import migrate

    with _database() as direct:
        found, needed = migrate.current(*direct), migrate.head()
    if output in (Format.JSON, Format.JSONL):
        print_json(
            {"current": found, "head": needed, "up_to_date": migrate.suffices(found)}, lines=output is Format.JSONL
        )
        return
    print(found or "none")
    if not migrate.suffices(found):
        note(f"This release needs {needed}: run `orchestrator db upgrade`.")


@verb(app, "sql")
def sql(
    whole: Annotated[bool, typer.Option("--all", help="From an empty database, without looking at yours.")] = False,
) -> None:
    """Print the SQL that `db upgrade` would run, for a DBA."""
    from orchestrator.ledger import migrate

    if whole or settings().database_url is None:
        print(migrate.sql(None))
        return
    with _database() as direct:
        print(migrate.sql(*direct))


@verb(app, "connections")
def connections(
    apis: Annotated[int | None, typer.Option(min=0, help="Processes of the API; else as set.")] = None,
    beats: Annotated[int, typer.Option(min=0, help="Beats.")] = 1,
    exporters: Annotated[int, typer.Option(min=0, help="Exporters.")] = 1,
    clients: Annotated[int, typer.Option(min=0, help="Programs with a client.")] = 0,
    output: Output = None,
) -> None:
    """Print how many connections all processes may have at the same time, beside what PostgreSQL allows and what is
    open now. Workers and keepers are those that live."""
    from orchestrator.cli import budget
    from orchestrator.core.connections import Others

    others = Others(settings().api_replicas if apis is None else apis, beats, exporters, clients)
    with ledger_itself() as client:
        found = budget.find(client, others)
    if output in (Format.JSON, Format.JSONL):
        print_json(budget.plain(found), lines=output is Format.JSONL)
        return
    budget.show(found)


@verb(app, "role-sql")
def role_sql(
    role: Annotated[str, typer.Option(metavar="NAME", help="The role of the running processes.")] = "flow_runtime",
    schema: Annotated[str, typer.Option(metavar="NAME", help="Where the tables are.")] = "public",
    database: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one where the settings hold; all, without it.")
    ] = None,
    only_settings: Annotated[bool, typer.Option("--settings", help="Without its rights.")] = False,
) -> None:
    """Print the SQL that makes the role of the running processes, with the least rights that they need and with the
    settings that a pooler in transaction mode cannot bring."""
    from orchestrator.ledger import roles

    if only_settings:
        print(roles.settings(settings().statement_timeout, role, database), end="")
        return
    print(roles.runtime_role(settings().statement_timeout, role, schema, database), end="")
    note("Run it as the owner of the schema, and again after each upgrade. Then give the role a password.")


@verb(app, "forget-store")
def forget_store(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Let the next worker that starts make its payload store the ledger's: when the one before is lost for good. What
    was in that cannot be read any more."""
    from orchestrator.engine import payloads

    if not yes:
        typer.confirm("Give up what the payload store has?", abort=True, err=True)
    with ledger_itself() as client:
        before = client.call(payloads.forget_store)
    note(f"Forgot payload store {before}." if before else "This ledger has no payload store.")
