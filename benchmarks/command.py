"""What the measuring programs share: arguments, progress, servers, and how they end."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from benchmarks.processes import ROOT, BenchFailed
from benchmarks.workloads import Say
from orchestrator.errors import OrchestratorError
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.valkey import EmbeddedValkey


class Parser(argparse.ArgumentParser):
    """A wrong argument is one line, not a page."""

    def __init__(self, module: str, description: str, output: str) -> None:
        """`output`: the file below .orchestrator where the tables are kept, when no other is given."""
        super().__init__(prog=f"python -m {module}", description=description)
        self._module = module
        self.add_argument("--output", type=_file, default=ROOT / ".orchestrator" / output, help="where it is kept")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self._module}: {message}. Fix: see {self.prog} --help\n")


def names_of(given: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    """The comma-separated names in `given`, each once.

    Raises:
        argparse.ArgumentTypeError: one is not known, or there is none.
    """
    known = tuple(known)
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    if not names:
        raise argparse.ArgumentTypeError(f"no {what} is named; there are {', '.join(known)}")
    return names


def _file(given: str) -> Path:
    path = Path(given)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{given} is not a file in a folder that exists")
    return path


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def measure(work: Callable[[Say], str], output: Path) -> int:
    """Print what `work` measures, and keep it; 0, 1 when something failed, 130 for Ctrl-C or SIGTERM."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        text = work(say)
    except (BenchFailed, OrchestratorError) as exc:
        print(f"The benchmark failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    print(f"\n{text}\nKept in {output}")
    return 0


@contextmanager
def servers(say: Say) -> Iterator[tuple[EmbeddedPostgres, EmbeddedValkey, Path]]:
    """Both servers and a folder, all of them for as long as the block runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
        for server in (postgres, valkey):
            say(f"starting {server.title}")
            stack.callback(server.stop, immediate=True)
            server.start()
        yield postgres, valkey, folder


def in_database(url: str, name: str | int) -> str:
    """The same server, another of its databases."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
