"""What to do about a server that does not answer, read from what the client library said."""

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator import full_disk
from orchestrator.errors import DatabaseFailed, OrchestratorError, SchemaBehind, TookTooLong, Unavailable
from orchestrator.ledger.tx import is_disconnect
from orchestrator.settings import variable
from orchestrator.settings.urls import mask_url

_CLIENT: Final = re.compile(r"<redis\.client\.Redis\(.*?\)>\)>\)> - ")
_DATABASE_URL: Final = variable("database_url")
_BROKER_URL: Final = variable("broker_url")
_STATEMENT_TIMEOUT: Final = variable("statement_timeout")
_LIMITS: Final = frozenset({"57014", "55P03", "25P03"})
"""A statement, a wait for a lock, or a pause within a transaction took longer than it may."""
_BROKER_SSL: Final = variable("broker_use_ssl")
_BROKER_OPTIONS: Final = variable("broker_transport_options")

_SENTINEL: Final = (
    f"correct the Sentinels in {_BROKER_URL} and master_name in {_BROKER_OPTIONS}, and the password of the Sentinels "
    "there, under sentinel_kwargs."
)
# Asking again does not help with any of these.
_BROKER: Final = (
    (r"No master found.*auth:AuthenticationError", _SENTINEL),
    (
        r"Hostname mismatch|IP address mismatch|not valid for",
        f"name the host in {_BROKER_URL} as its certificate does.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        f"""name the file of its authority in {_BROKER_SSL}='{{"ssl_ca_certs": "/path/ca.pem"}}'.""",
    ),
    (
        r"(?i)certificate.required|handshake.failure|alert.unknown.ca|alert.bad.certificate",
        f"""it wants a client certificate: {_BROKER_SSL}='{{"ssl_certfile": "/path/us.pem", """
        """"ssl_keyfile": "/path/us.key", "ssl_ca_certs": "/path/ca.pem"}'.""",
    ),
    (
        r"WRONG_VERSION_NUMBER|record layer failure|RECORD_LAYER_FAILURE",
        f"it does not speak TLS on this port: correct the port, or write redis:// in {_BROKER_URL}.",
    ),
    (
        r"WRONGPASS|NOAUTH|invalid username-password|invalid password|Authentication required|without any password",
        f"correct the password in {_BROKER_URL}; that of the Sentinels is in {_BROKER_OPTIONS}, under sentinel_kwargs.",
    ),
)
# Up, and takes no messages at the moment: worth waiting for.
_WRITES: Final = (
    (
        r"NOREPLICAS",
        "it is up and refuses writes, because too few replicas follow it: bring them back, or lower "
        "min-replicas-to-write.",
    ),
    (
        r"MISCONF",
        "it is up and refuses writes, because it cannot save to its disk: make room there, and see its log.",
    ),
    (
        r"OOM|used memory > 'maxmemory'",
        "it is up and refuses writes, because its memory is full: raise maxmemory, or see what fills it.",
    ),
    (
        r"READONLY|read only replica",
        f"it is a replica and refuses writes: name the primary in {_BROKER_URL}, or the Sentinels.",
    ),
)
_HINTS: Final = (
    *_WRITES,
    (r"No master found", _SENTINEL),
    (
        r"Connection closed by server|Connection reset|unexpected eof|EOF occurred",
        f"correct {_BROKER_URL}. A server that wants TLS (rediss://), or a client certificate (ssl_certfile and "
        f"ssl_keyfile in {_BROKER_SSL}), closes connections like this.",
    ),
    (
        r"Timeout connecting",
        f"start it, or correct {_BROKER_URL}. A server without TLS does not answer rediss:// at all.",
    ),
)
_DATABASE: Final = (
    (
        r"does not match host name",
        f"name the host in {_DATABASE_URL} as its certificate does.",
    ),
    (
        r"certificate verify failed|root certificate file",
        f"name the file of its authority in {_DATABASE_URL}, as in ?sslmode=verify-full&sslrootcert=/path/ca.pem.",
    ),
    (
        r"certificate required|requires a valid client certificate|certificate file|private key file",
        f"it wants a client certificate: ?sslcert=/path/us.pem&sslkey=/path/us.key in {_DATABASE_URL}.",
    ),
    (
        r"does not support SSL|did not request SSL|no encryption",
        f"correct sslmode in {_DATABASE_URL}, or switch TLS on in PostgreSQL.",
    ),
    (
        r"password authentication failed|no password supplied",
        f"correct the user and the password in {_DATABASE_URL}.",
    ),
)
_MAKE_ROOM: Final = "make room on the disk of PostgreSQL."
# Up, and has no session for us at the moment: worth waiting for.
_SESSIONS: Final = (
    (full_disk.SAID, _MAKE_ROOM),
    (
        r"the database system is (starting up|not yet accepting|in recovery mode|shutting down)",
        "try again in a while; if that repeats, see the log of PostgreSQL.",
    ),
    (
        r"received \d+ results from command",
        f"try again. A pooler passed on that PostgreSQL had ended the session: it was stopped, or a transaction of "
        f"ours did nothing for longer than {_STATEMENT_TIMEOUT}.",
    ),
    (
        r"max_client_conn",
        "let the pooler take as many connections as `orchestrator db connections` counts (PgBouncer: "
        "`max_client_conn`).",
    ),
    (
        r"server_login_retry|server conn crashed|pgbouncer|server_lifetime",
        "try again in a while: the pooler has lost PostgreSQL, or restarts; if that repeats, see the logs of both.",
    ),
    (
        r"query_timeout|idle_transaction_timeout|client_idle_timeout",
        "switch that limit off in the pooler: ours are PostgreSQL's.",
    ),
    (
        r"no session was free|query_wait_timeout",
        "give the pooler as many sessions as all workers and clients want at the same time (PgBouncer: "
        "`default_pool_size`).",
    ),
)


# What the first characters of a SQLSTATE say, longest first.
_STATES: Final = (
    ("53100", _MAKE_ROOM),
    ("53200", "give PostgreSQL more memory."),
    ("53", "give PostgreSQL what it lacks, and see its log."),
    ("55P03", "try again: somebody holds a lock."),
    ("58", "see the log of PostgreSQL: its disk or its files have failed."),
    ("25006", f"name the primary in {_DATABASE_URL}: this server takes no writes."),
    ("42501", "grant what the page for operators names, again after each migration."),
)


def broker_fix(reason: str) -> str:
    """One sentence, after `Fix: `."""
    return _first(reason, (*_BROKER, *_HINTS)) or f"start it, or correct {_BROKER_URL}."


def broker_refuses(reason: str) -> bool:
    """Whether it answers and refuses us: waiting does not help."""
    return _first(reason, _BROKER) is not None


def database_fix(reason: str) -> str:
    """One sentence, after `Fix: `."""
    return _first(reason, (*_DATABASE, *_SESSIONS)) or f"start it, or correct {_DATABASE_URL}."


def database_refuses(reason: str) -> bool:
    """Whether it answers and refuses us: waiting does not help."""
    return _first(reason, _DATABASE) is not None


def _first(reason: str, known: Sequence[tuple[str, str]]) -> str | None:
    return next((fix for pattern, fix in known if re.search(pattern, reason)), None)


def one_line(error: BaseException | str) -> str:
    """The first line of what was said, without the full stop, and without the clients that redis-py spells out."""
    return _CLIENT.sub("", str(error).strip().split("\n")[0]).rstrip(".")


def explained(exc: DBAPIError, url: str) -> OrchestratorError:
    """What a person reads instead of the driver's error, which spells out our SQL."""
    state = getattr(exc.orig, "sqlstate", None) or ""
    reason = one_line(exc.orig or exc)
    if state in _LIMITS:
        return TookTooLong(
            f"PostgreSQL at {_shown(url)} ended a transaction of ours: {reason}. Nothing of it was "
            f"written. Fix: try again; if it repeats, raise {_STATEMENT_TIMEOUT}, and look for what it waits for with "
            "`orchestrator doctor`."
        )
    if (known := unavailable(exc, url)) is not None:
        return known
    fix = next((fix for begin, fix in _STATES if state.startswith(begin)), None)
    fix = fix or _first(reason, ((full_disk.SAID, _MAKE_ROOM),)) or "see the log of PostgreSQL."
    return DatabaseFailed(
        f"PostgreSQL at {_shown(url)} could not do this: {reason}. Fix: {fix}",
        sqlstate=state,
    )


def unavailable(exc: DBAPIError, url: str) -> Unavailable | None:
    """The error for a database that is away or empty; None: something else is wrong."""
    if getattr(exc.orig, "sqlstate", None) == "42P01":  # a table is missing
        return SchemaBehind("The database has no schema of this release. Fix: run `orchestrator db upgrade`.")
    if not is_disconnect(exc):
        return None
    reason = one_line(exc.orig or exc)
    return Unavailable(
        f"PostgreSQL at {_shown(url)} cannot be reached: {reason}. Fix: {database_fix(reason)}",
        refused=database_refuses(reason),
    )


def _shown(url: str) -> str:
    return mask_url(url.replace("+psycopg", "", 1))
