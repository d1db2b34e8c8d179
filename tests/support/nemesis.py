"""Strikes a process at a named fault point, when a file tells it to.

The test writes an order for a point, or a handler does; the first process that passes the point, and that the order
means, takes it (a rename, so it happens once, however many processes there are and however often they are restarted).
"""

import json
import os
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psycopg
from sqlalchemy.exc import OperationalError

from orchestrator.engine import faults

VARIABLE = "TEST_FAULTS"
Who = Literal["child", "main", "any"]
_main_pid = os.getpid()


def order(folder: Path, point: str, do: str, who: Who = "any", pid: int | None = None) -> None:
    """For any process that is meant, or for `pid` only.

    `do`: kill, killpg (the whole worker), stop, raise, always-raise, flush (Redis), cut (database connections).
    """
    scratch = folder / f".{point}.{os.getpid()}"
    scratch.write_text(json.dumps({"do": do, "who": who}))
    scratch.rename(folder / _place(point, pid))


def _place(point: str, pid: int | None) -> str:
    return point if pid is None else f"{point}.for.{pid}"


def struck(folder: Path, point: str) -> int | None:
    """The pid of the process that took the order; None when none did yet."""
    found = list(folder.glob(f"{point}.struck.*"))
    return int(found[0].name.rpartition(".")[2]) if found else None


def forget(folder: Path) -> None:
    """Forget who was struck."""
    for path in folder.glob("*.struck.*"):
        path.unlink()


def clear(folder: Path) -> None:
    """Forget every order, done or not."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def arm(points: Iterable[str] = faults.POINTS) -> None:
    """Watch these points in this process and those it forks. Called when a worker loads the test's flows."""
    global _main_pid
    _main_pid = os.getpid()
    for point in points:
        faults.arm(point, partial(strike, point))


def multiply(copies: int) -> None:
    """From now on this process, and those it forks, send every message so often."""
    from orchestrator.delivery.publisher import Publisher

    send = Publisher._send
    Publisher._send = lambda self, batch: send(self, [one for one in batch for _ in range(copies)])  # type: ignore[method-assign]


def strike(point: str) -> None:
    """Do what was ordered for this point, if something was."""
    folder = Path(os.environ[VARIABLE])
    for place in (_place(point, os.getpid()), point):
        try:
            wanted: dict[str, Any] = json.loads((folder / place).read_text())
        except FileNotFoundError:
            continue
        here: Who = "main" if os.getpid() == _main_pid else "child"
        if wanted["who"] in (here, "any") and _taken(folder, place, point, wanted["do"]):
            _ACTIONS[wanted["do"]]()


def _taken(folder: Path, place: str, point: str, do: str) -> bool:
    """Whether this process got the order; one that is for always stays."""
    if do == "always-raise":
        return True
    try:
        (folder / place).rename(folder / f"{point}.struck.{os.getpid()}")
    except FileNotFoundError:
        return False
    return True


def _disconnect() -> None:
    raise OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))


def _flush() -> None:
    import redis

    with redis.Redis.from_url(os.environ["ORCHESTRATOR_BROKER_URL"]) as client:
        client.flushall()


def cut(url: str) -> None:
    """End every connection of workers to this database."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND application_name LIKE 'orchestrator%'"
        )


_ACTIONS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "killpg": lambda: os.killpg(os.getpgrp(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _disconnect,
    "always-raise": _disconnect,
    "flush": _flush,
    "cut": lambda: cut(os.environ["ORCHESTRATOR_DATABASE_URL"]),
}
