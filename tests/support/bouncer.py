"""PgBouncer in front of a test's database."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from pydantic import SecretStr

from orchestrator.core.reach import PLAIN
from orchestrator.ledger import roles
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.support.eventually import eventually

_SHIPPED: Final = Path(__file__).parents[2] / "deploy" / "pgbouncer"
_INSTALL: Final = "PgBouncer is not installed. Install it: apt-get install pgbouncer"


def installed() -> str | None:
    """The program, if this machine has it."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def needed() -> str:
    """The program. Without it a test is skipped here and fails in CI."""
    found = installed()
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(_INSTALL)
    pytest.skip(_INSTALL)


def _ini(mode: str, where: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """What we ship for that mode, for these servers."""
    shipped = (_SHIPPED / f"{'session' if mode == 'session' else 'transaction'}.ini").read_text()
    database = f"* = host=127.0.0.1 port={where['port']} user={where['user']} password={where['password']}"
    shipped = re.sub(r"^flows = .*$", database, shipped, flags=re.MULTILINE)
    for name in changed:
        shipped = re.sub(rf"^{name} = .*\n", "", shipped, flags=re.MULTILINE)
    return shipped + "".join(f"{name} = {value}\n" for name, value in changed.items())


@contextmanager
def bouncer(
    db_url: str, folder: Path, mode: str, *, size: int = 50, port: int | None = None, **options: Any
) -> Iterator[str]:
    """The URL of `db_url` through a PgBouncer with `pool_mode = mode` and `size` sessions. In transaction mode the
    role of that URL has to be given its settings: `equip`."""
    program = needed()
    where, port = psycopg.conninfo.conninfo_to_dict(db_url), port or free_port()
    ini = folder / f"bouncer-{port}.ini"
    ours = {"listen_port": port, "unix_socket_dir": "", "auth_type": "any", "auth_file": "", "pool_mode": mode}
    ini.write_text(_ini(mode, where, {**ours, "default_pool_size": size, **options}))
    as_user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []  # it will not run as root
    log = folder / f"bouncer-{port}.log"
    with ini.open() as config, log.open("wb") as out:
        process = subprocess.Popen([*as_user, program, "/dev/stdin"], stdin=config, stdout=out, stderr=out)
    url = f"postgresql://{where['user']}:x@127.0.0.1:{port}/{where['dbname']}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
            return True
        return False

    try:
        eventually(answers, message="PgBouncer answers")
        yield url
    finally:
        process.terminate()
        process.wait()


def equip(db_url: str, limit: timedelta = PLAIN.role_limit) -> None:
    """Give the role of `db_url` its settings, in that database."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(roles.settings(limit, connection.info.user, connection.info.dbname).encode())


def through(settings: Settings, url: str, mode: str) -> Settings:
    """These settings, with the database behind the pooler; nothing but the pooler is known."""
    return settings.model_copy(update={"database_url": SecretStr(url), "database_pooler": mode})
