"""PgBouncer in front of a test's database."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest
from pydantic import SecretStr

from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.support.eventually import eventually

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


@contextmanager
def bouncer(db_url: str, folder: Path, mode: str, *, size: int = 50, options: str = "") -> Iterator[str]:
    """The URL of `db_url` through a PgBouncer with `pool_mode = mode` and `size` sessions."""
    program = needed()
    where, port = psycopg.conninfo.conninfo_to_dict(db_url), free_port()
    ini = folder / f"bouncer-{port}.ini"
    ini.write_text(
        f"[databases]\n* = host=127.0.0.1 port={where['port']} user={where['user']} password={where['password']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {size}\n{options}"
    )
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


def through(settings: Settings, url: str) -> Settings:
    """These settings, with the database behind the pooler."""
    return settings.model_copy(update={"database_url": SecretStr(url)})
