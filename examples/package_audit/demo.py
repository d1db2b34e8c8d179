"""`make demo`: the whole stack on this machine, the package audit on it, the report, and nothing left running.

    python -m examples.package_audit.demo [--data-dir .orchestrator] [--keep]

Exit code 0: the audit ran and its report was printed. 1: something failed; the last lines say what. 130: Ctrl-C.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from examples.package_audit.flow import package_audit
from examples.package_audit.report import table
from orchestrator import Client, OrchestratorError, Settings
from orchestrator.dev.data_dir import clean_up_predecessor

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = (sys.executable, "-m", "orchestrator")
_READY_S: Final = 120.0
_STOP_S: Final = 60.0
_RUN_S: Final = 300.0
_STOPPED: Final = 128


class DemoFailed(Exception):
    """What to tell the user."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="Run the package audit on a stack of its own.")
    parser.add_argument(
        "--data-dir", type=Path, default=ROOT / ".orchestrator", help="where the servers keep their data"
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack running until Ctrl-C")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a background job may start with SIGINT ignored
        signal.signal(number, _interrupt)
    try:
        with stack(given.data_dir.absolute()) as info:
            run_id = audit(info, given.data_dir)
            where_to_look(info, run_id)
            if given.keep:
                say("The stack goes on until Ctrl-C.")
                signal.pause()
    except (DemoFailed, OrchestratorError) as exc:
        print(f"The demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if given.keep else _STOPPED + signal.SIGINT
    say("Everything is stopped.")
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def stack(data_dir: Path) -> Iterator[dict[str, Any]]:
    """`orchestrator dev` while the block runs; the block gets its ready line."""
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    log_path = data_dir / "demo.log"
    say("Starting PostgreSQL, Valkey, a worker and Flower …")
    began = time.monotonic()
    command = [*PROGRAM, "dev", "-o", "json", "--data-dir", str(data_dir), "--flows", "examples.package_audit.flow"]
    with log_path.open("w") as log:
        dev = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process, which then stops `dev` once and in order
        )
    try:
        info = _ready_line(dev, log_path)
        say(f"Ready after {time.monotonic() - began:.1f} s. Flower: {info['flower_url']}\n")
        yield info
    finally:
        _stop(dev, data_dir)


def _ready_line(dev: "subprocess.Popen[str]", log_path: Path) -> dict[str, Any]:
    """Read on a thread, so that a `dev` that never gets ready ends the wait and not the patience."""
    lines: queue.Queue[str] = queue.Queue()
    assert dev.stdout is not None
    threading.Thread(target=lambda out: lines.put(out.readline()), args=[dev.stdout], daemon=True).start()
    try:
        line = lines.get(timeout=_READY_S)
    except queue.Empty:
        raise DemoFailed(f"the stack was not ready after {_READY_S:.0f} s. Fix: see {log_path}") from None
    if not line:
        dev.wait()
        tail = "\n".join(log_path.read_text().splitlines()[-15:])
        raise DemoFailed(f"`orchestrator dev` ended with exit code {dev.returncode}. The end of {log_path}:\n{tail}")
    info: dict[str, Any] = json.loads(line)
    return info


def _stop(dev: "subprocess.Popen[str]", data_dir: Path) -> None:
    """SIGTERM and wait; an impatient second Ctrl-C does not leave half a stack behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if dev.poll() is None:
            say("Stopping the stack …")
            dev.terminate()
        try:
            dev.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            dev.kill()
            dev.wait()
            clean_up_predecessor(data_dir, say)  # its servers end with it, its workers need not
            raise DemoFailed(f"`orchestrator dev` did not stop within {_STOP_S:.0f} s and was killed") from None
        finally:
            if dev.stdout is not None:
                dev.stdout.close()
    finally:
        signal.signal(signal.SIGINT, before)


def audit(info: dict[str, Any], data_dir: Path) -> str:
    """Start the run, show it live, print its report and keep it beside the data; the run's id."""
    urls = {f"ORCHESTRATOR_{name.upper()}": info[name] for name in ("database_url", "broker_url")}
    with Client(Settings.from_env(urls)) as client:
        run = client.start(package_audit)
        _watch(str(run.id), urls)
        report = run.result(timeout=_RUN_S)
    text = table(report)
    (data_dir / "report.txt").write_text(text)
    (data_dir / "report.json").write_text(report.model_dump_json(indent=2))
    say(f"\n{text}")
    return str(run.id)


def _watch(run_id: str, urls: dict[str, str]) -> None:
    """The live tree of the run. It only looks, so its exit code does not decide."""
    subprocess.run([*PROGRAM, "run", "watch", run_id], cwd=ROOT, env={**os.environ, **urls}, check=False)


def where_to_look(info: dict[str, Any], run_id: str) -> None:
    """Names what stays and what can be asked for later."""
    data_dir = Path(info["data_dir"])
    lines = (
        ("report", f"{data_dir / 'report.txt'} and {data_dir / 'report.json'}"),
        ("Flower", f"{info['flower_url']} (while the stack runs: make demo with --keep, or orchestrator dev)"),
        ("the run again", f"orchestrator dev --data-dir {data_dir}, and in another terminal:"),
        *(("", f"orchestrator run {verb} {run_id}") for verb in ("show", "events", "result")),
        ("logs", str(data_dir / "demo.log")),
    )
    say("\n".join(f"  {name:14} {value}" for name, value in lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
