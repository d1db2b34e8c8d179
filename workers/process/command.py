"""What `orchestrator worker`, `beat` and `flower` run. Each returns the exit code of the process."""

import ipaddress
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from celery.signals import worker_shutting_down

from orchestrator.core.listen_address import ListenAddress
from orchestrator.errors import UsageError
from orchestrator.observe import listener, systemd
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import FLOWER_DEFAULTS, make_app
from orchestrator.workers.app.start import set_up_logging
from orchestrator.workers.process.supervise import BESIDE, supervise
from orchestrator.workers.process.together import ANY_PORT, Board, answer_for_all
from orchestrator.workers.state import DRAINED, new_worker_id, state_of

POOLS: Final = ("prefork", "threads", "solo")
_THREADS: Final = 10


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. `concurrency` is steps at a time per process: by default one per processor with prefork, ten
    with threads. `queues`: by default those that its flows name."""

    pool: str = "prefork"
    concurrency: int | None = None
    queues: Sequence[str] = ()
    processes: int = 1
    name: str | None = None
    loglevel: str | None = None
    events: bool = False

    def check(self) -> None:
        """
        Raises:
            UsageError: an option does not fit.
        """
        if self.pool not in POOLS:
            raise UsageError(f"Unknown pool `{self.pool}`. Fix: choose one of {', '.join(POOLS)}.")
        for option, value in (("concurrency", self.concurrency), ("processes", self.processes)):
            if value is not None and value < 1:
                raise UsageError(f"--{option} is {value}. Fix: give 1 or more.")

    def hostname(self, index: int) -> str:
        """What Celery calls the process with this number."""
        given = f"{self.name or 'worker'}-{index}" if self.processes > 1 else self.name or f"worker-{os.getpid()}"
        return given if "@" in given else f"{given}@%h"


def run_worker(settings: Settings, options: WorkerOptions = WorkerOptions()) -> int:
    """Work until SIGTERM; then finish the running steps, give back the rest, and return.

    With `processes` above one, this process only watches over that many workers.

    Raises:
        UsageError: an option or a setting does not fit.
    """
    settings.require_database_url()
    settings.require_broker_url()
    options.check()

    if options.processes == 1:
        return _work(settings, options, options.hostname(1))
    set_up_logging(settings, "INFO")
    manager = systemd.take(os.environ)
    if settings.health_address is None and manager is None:
        return supervise(
            lambda index: _work(settings, options, options.hostname(index)),
            options.processes,
            stop_grace=settings.stop_grace,
            drained=DRAINED,
        )
    if settings.health_address is not None:
        listener.check(ListenAddress.read(settings.health_address))
    board = Board(options.processes)
    own = settings.model_copy(update={"health_address": ANY_PORT})

    def one(index: int) -> int:
        if index == BESIDE:
            return answer_for_all(settings, board, manager)
        return _work(own, options, options.hostname(index), lambda port: board.listens(index, port))

    return supervise(one, options.processes, stop_grace=settings.stop_grace, drained=DRAINED, watched=board)


def _work(
    settings: Settings, options: WorkerOptions, hostname: str, listens: Callable[[int], None] | None = None
) -> int:
    signal.signal(signal.SIGTERM, _not_begun)
    app = make_app(settings)
    app.set_current()
    state = state_of(app)
    state.supervised = options.processes > 1
    state.listens = listens
    stops = _stops()
    try:
        worker = app.Worker(
            hostname=_node(hostname),
            pool_cls=options.pool,
            concurrency=options.concurrency or (_THREADS if options.pool == "threads" else None),
            queues=",".join(options.queues) or None,
            loglevel=options.loglevel or settings.log_level,
            task_events=options.events,
            quiet=True,
        )
        worker.start()
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    # Celery gives 1 for Ctrl-C, also when every step was finished and the rest given back.
    return state.exit_code if stops == ["Warm"] else worker.exitcode or 0


def _not_begun(number: int, frame: FrameType | None) -> None:
    """Until Celery handles it. The first process of a container would not hear it at all, and wait for the ledger.
    Nothing runs yet, so nothing is left; an exception would be taken for one of the flows that are being loaded."""
    os._exit(0)


def _stops() -> list[str]:
    """How this process is told to stop: filled by each signal, `Warm` or `Cold`."""
    told: list[str] = []

    def note(how: str, **rest: object) -> None:
        told.append(how)

    worker_shutting_down.connect(note, weak=False)
    return told


def _node(pattern: str) -> str:
    from celery.utils.nodenames import host_format

    name: str = host_format(pattern)
    return name


def run_beat(settings: Settings, *, loglevel: str | None = None, supervised: bool = True) -> int:
    """Announce ticks until SIGTERM, or stand by while another beat does.

    Supervised, this process only watches over the one that does it: that is started again when it ends, and then takes
    over its predecessor's lock at once, because that has certainly ended.

    Raises:
        SettingsInvalid: a URL is not set.
    """
    settings.require_database_url()
    settings.require_broker_url()
    beat_id = new_worker_id()

    def one(index: int) -> int:
        app = make_app(settings, {})
        app.set_current()
        state_of(app).beat_id = beat_id
        try:
            app.Beat(quiet=True, loglevel=loglevel or settings.log_level).run()
        except SystemExit as exc:
            return exc.code if isinstance(exc.code, int) else 1
        return 0

    if not supervised:
        return one(1)
    set_up_logging(settings, "INFO")
    return supervise(one, 1, "beat")


def run_flower(
    settings: Settings,
    *,
    port: int = 5555,
    address: str = "127.0.0.1",
    basic_auth: str | None = None,
    url_prefix: str | None = None,
) -> int:
    """Serve Flower until it is told to stop: it may look, and switches no events on.

    Raises:
        UsageError: it would be open to others without a password.
    """
    settings.require_broker_url()
    if basic_auth is None and not _loopback(address):
        raise UsageError(
            f"Flower at {address} would show every task to anybody. "
            "Fix: give --basic-auth user:password, or listen on 127.0.0.1."
        )
    argv = ["flower", f"--address={address}", f"--port={port}"]
    argv += [f"--{name}={value}" for name, value in FLOWER_DEFAULTS.items()]
    argv += [f"--basic_auth={basic_auth}"] if basic_auth else []
    argv += [f"--url_prefix={url_prefix}"] if url_prefix else []
    set_up_logging(settings)  # before its own, which adds no handler where there is one
    code = make_app(settings, {}).start(argv=argv)
    return code if isinstance(code, int) else 0


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
