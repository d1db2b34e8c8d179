"""python -m benchmarks [--quick] [--only NAME[,NAME…]] [--output FILE]

Ours beside bare Celery, on servers of its own in a temporary folder. Prints a Markdown table and keeps it in FILE
(default .orchestrator/bench.md).
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

from benchmarks import alone, finish, workloads
from benchmarks.alone import Ground
from benchmarks.backlog import backlog
from benchmarks.contenders import Bare, Contender, Ours
from benchmarks.processes import ROOT, BenchFailed
from benchmarks.report import Result, markdown
from benchmarks.workloads import QUICK, Say, Sizes
from orchestrator.embedded.postgres import EmbeddedPostgres
from orchestrator.embedded.valkey import EmbeddedValkey
from orchestrator.errors import OrchestratorError

COMPARED: Final[dict[str, Callable[[Sequence[Contender], Sizes, Say], Result]]] = {
    "chain": workloads.chain,
    "latency": workloads.latency,
    "fan": workloads.fan,
    "starts": workloads.starts,
}
ALONE: Final[dict[str, Callable[[Ground, Sizes, Say], Result]]] = {
    "history": alone.history,
    "finish": finish.finish,
    "scale": alone.scale,
    "costs": alone.costs,
    "memory": alone.memory,
}
USUAL: Final = (*COMPARED, "backlog")
NAMES: Final = (*USUAL, *ALONE)


class _OneLine(argparse.ArgumentParser):
    """A wrong argument is one line, not a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: {message}. Fix: see python -m benchmarks --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when everything was, 1 when something failed, 2 for a wrong argument, 130 for Ctrl-C."""
    parser = _OneLine(prog="python -m benchmarks", description="Measure throughput and latency beside bare Celery.")
    parser.add_argument("--quick", action="store_true", help="under two minutes, with smaller numbers")
    parser.add_argument("--only", type=_names, default=USUAL, metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    parser.add_argument(
        "--output", type=_file, default=ROOT / ".orchestrator" / "bench.md", help="where the table is kept"
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        text = run(QUICK if given.quick else Sizes(), given.only, _say)
    except (BenchFailed, OrchestratorError) as exc:
        print(f"The benchmark failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(f"\n{text}\nKept in {given.output}")
    return 0


def _names(given: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    if not names:
        raise argparse.ArgumentTypeError(f"no benchmark is named; there are {', '.join(NAMES)}")
    return names


def _file(given: str) -> Path:
    path = Path(given)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{given} is no file in a folder that exists")
    return path


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_began = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _began:4.0f} s] {text}", file=sys.stderr, flush=True)


def run(sizes: Sizes, names: Sequence[str], say: Say) -> str:
    """The whole measurement, on servers that live as long as it; the table.

    Raises:
        BenchFailed: a process did not start, a run did not succeed.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
        for server in (postgres, valkey):
            say(f"starting {server.title}")
            stack.callback(server.stop, immediate=True)
            server.start()
        results = _compared(sizes, names, postgres, valkey, folder, say)
        if "backlog" in names:
            results.append(backlog(postgres.url, valkey.url, folder, sizes, say))
        ground = Ground(postgres, valkey, folder)
        results += [ALONE[name](ground, sizes, say) for name in ALONE if name in names]
    return markdown(results, _CONTENDERS, time.monotonic() - began)


_CONTENDERS: Final = ("orchestrator", "bare Celery", "bare Celery, no ack emulation")


def _compared(
    sizes: Sizes,
    names: Sequence[str],
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    folder: Path,
    say: Say,
) -> list[Result]:
    wanted = [COMPARED[name] for name in COMPARED if name in names]
    if not wanted:
        return []
    _, plain, bold = _CONTENDERS
    with ExitStack() as stack:
        contenders: list[Contender] = []

        def join(one: Contender) -> None:
            stack.callback(one.close)
            contenders.append(one)

        say("starting the workers")
        join(Ours(postgres.url, valkey.url, {"postgres": postgres.pid, "valkey": valkey.pid}, folder))
        join(Bare(plain, _numbered(valkey.url, 1), True, valkey.pid, folder))
        join(Bare(bold, _numbered(valkey.url, 2), False, valkey.pid, folder))
        return [workload(contenders, sizes, say) for workload in wanted]


def _numbered(url: str, number: int) -> str:
    """The same server, another of its numbered databases."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


if __name__ == "__main__":
    sys.exit(main())
