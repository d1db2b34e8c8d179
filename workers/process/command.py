"""What `orchestrator worker`, `beat` and `flower` run. Each returns the exit code of the process."""

import ipaddress
import os
from collections.abc import Sequence
from typing import Final

from celery.signals import worker_shutting_down

from orchestrator.errors import UsageError
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import FLOWER_DEFAULTS, make_app
from orchestrator.workers.process.supervise import supervise
from orchestrator.workers.state import new_worker_id, state_of

POOLS: Final = ("prefork", "threads", "solo")
_THREADS: Final = 10


def run_worker(
    settings: Settings,
    *,
    pool: str = "prefork",
    concurrency: int | None = None,
    queues: Sequence[str] = (),
    processes: int = 1,
    name: str | None = None,
    loglevel: str | None = None,
    events: bool = False,
) -> int:
    """Work until SIGTERM; then finish the running steps, give back the rest, and return.

    `concurrency` is steps at a time per process: by default one per processor with prefork, ten with threads.
    With `processes` above one, this process only watches over that many workers.

    Raises:
        UsageError: an option or a setting does not fit.
    """
    _check(settings, pool, concurrency, processes)

    def one(index: int) -> int:
        given = f"{name or 'worker'}-{index}" if processes > 1 else name or f"worker-{os.getpid()}"
        hostname = given if "@" in given else f"{given}@%h"
        return _work(settings, pool, concurrency, tuple(queues), hostname, loglevel or settings.log_level, events)

    return one(1) if processes == 1 else supervise(one, processes)


def _check(settings: Settings, pool: str, concurrency: int | None, processes: int) -> None:
    settings.require_database_url()
    settings.require_broker_url()
    if pool not in POOLS:
        raise UsageError(f"Unknown pool `{pool}`. Fix: choose one of {', '.join(POOLS)}.")
    for option, value in (("concurrency", concurrency), ("processes", processes)):
        if value is not None and value < 1:
            raise UsageError(f"--{option} is {value}. Fix: give 1 or more.")


def _work(
    settings: Settings,
    pool: str,
    concurrency: int | None,
    queues: tuple[str, ...],
    hostname: str,
    loglevel: str,
    events: bool,
) -> int:
    app = make_app(settings)
    app.set_current()
    stops = _stops()
    try:
        worker = app.Worker(
            hostname=_node(hostname),
            pool_cls=pool,
            concurrency=concurrency or (_THREADS if pool == "threads" else None),
            queues=",".join(queues) or None,
            loglevel=loglevel,
            task_events=events,
            quiet=True,
        )
        worker.start()
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    # Celery gives 1 for Ctrl-C, also when every step was finished and the rest given back.
    return 0 if stops == ["Warm"] else worker.exitcode or 0


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

    return supervise(one, 1, "beat") if supervised else one(1)


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
    code = make_app(settings, {}).start(argv=argv)
    return code if isinstance(code, int) else 0


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
