"""An API in a process of its own, to be killed: on a socket of the test's, so that whoever connects meanwhile waits for
the next one."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.settings import Settings
from tests.support.worker_process import arm, env_of

_ROOT = Path(__file__).resolve().parents[2]
_MAIN = "import sys; from tests.support.api_process import main; main(int(sys.argv[1]), sys.argv[2])"


def main(fd: int, faults: str) -> None:
    """What the process runs."""
    import uvicorn

    from orchestrator.http.app import create_app

    arm(json.loads(faults))
    app = create_app(Settings.from_env(os.environ))
    uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[socket.socket(fileno=fd)])


@contextlib.contextmanager
def api_process(
    settings: Settings, listening: socket.socket, folder: Path, **faults: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """`faults`: points (with `__` for the dot) to `kill`, the first time that a process of this folder passes there."""
    armed: Mapping[str, str] = {point.replace("__", "."): kind for point, kind in faults.items()}
    fd = listening.fileno()
    env = env_of(settings, TEST_FAULT_FOLDER=str(folder))
    process = subprocess.Popen([sys.executable, "-c", _MAIN, str(fd), json.dumps(armed)], env=env, pass_fds=[fd])
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
