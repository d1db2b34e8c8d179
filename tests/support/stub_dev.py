"""`orchestrator dev` with stand-ins for the worker, the beat and Flower, so that supervision is tested in seconds.

    python -m tests.support.stub_dev DATA_DIR [WORKERS]

The worker lasts until SIGTERM. STUB_DAEMON: it leaves a stubborn process of its own behind, as a step may.
STUB_FAIL: it says that text and ends.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg

from orchestrator.dev import DevOptions, run_dev
from orchestrator.dev.supervisor import Supervisor
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings

_TABLE = "CREATE TABLE IF NOT EXISTS flow_workers (pid int, started_at timestamptz DEFAULT clock_timestamp())"


def worker() -> None:
    """Writes itself down as a real worker does."""
    if reason := os.environ.get("STUB_FAIL"):
        print(reason, flush=True)
        sys.exit(2)
    if os.environ.get("STUB_DAEMON"):
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    url = Settings.from_env(os.environ).require_database_url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.execute(_TABLE)
        connection.execute("INSERT INTO flow_workers (pid) VALUES (%s)", [os.getpid()])
    signal.pause()


def beat() -> None:
    """Does nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


def flower(port: int) -> None:
    """Listens, answers nobody."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.create_server(("127.0.0.1", port)):
        signal.pause()


def main(arguments: list[str]) -> int:
    if arguments[0] == "worker":
        worker()
    elif arguments[0] == "beat":
        beat()
    elif arguments[0] in ("flower", "api"):
        flower(int(arguments[2]))
    else:
        Supervisor._program = _stub_program  # type: ignore[method-assign]
        try:
            return run_dev(DevOptions(data_dir=Path(arguments[0]), workers=int(arguments[1]), output="json"))
        except OrchestratorError as exc:
            print(exc, file=sys.stderr)
            return exc.exit_code
    return 0


def _stub_program(self: Supervisor, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.stub_dev", *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
