"""What a process says of its health, to probes over HTTP and to systemd, from the same stamps."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from orchestrator.core.listen_address import ListenAddress
from orchestrator.observe import pulse, systemd
from orchestrator.observe.listener import Answer, Listener, Route
from orchestrator.observe.logs import log
from orchestrator.observe.pulse import Standing

_LOOK_S: Final = 1.0
_SAY_S: Final = 10.0
_UNREADY: Final = 503


@dataclass(frozen=True, slots=True)
class Part:
    """One condition of readiness. `detail` is for people: without addresses or passwords, for anybody may ask."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready when each part is, and the process was not told to stop."""

    parts: Mapping[str, Part] = field(default_factory=dict)
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Whether work may be sent here."""
        return not self.stopping and all(part.ok for part in self.parts.values())

    @property
    def status(self) -> str:
        """`ready`, `not_ready` or `stopping`."""
        return "stopping" if self.stopping else "ready" if self.ready else "not_ready"

    def __str__(self) -> str:
        missing = [f"{name}: {part.detail}" for name, part in self.parts.items() if not part.ok]
        return "; ".join([self.status.replace("_", " "), *missing])


class Subject(Protocol):
    """Whose readiness it is."""

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop. Looks at nothing outside."""

    def parts(self) -> Mapping[str, Part]:
        """What must be so, each by its name; takes as long as the checks, a few seconds at most."""


Loops = Callable[[], Sequence[Standing]]
"""How the loops stand at this moment."""


def begin(
    what: str,
    address: str | None,
    subject: Subject,
    more: Mapping[str, Route] | None = None,
    *,
    loops: Loops = pulse.standings,
    manager: systemd.Manager | None = None,
) -> Listener | None:
    """From now on, until the process ends, probes are answered at `address`, and systemd is told of it if it waits for
    that. `what` this process is, such as `worker`; `more`: routes beside the two. `loops`: if they are not those
    of this process; `manager`: systemd, if it was asked for already. The listener; None: there is no address.

    Raises:
        UsageError: the address cannot be listened on.
    """
    listener = None
    if address is not None:
        listener = Listener(ListenAddress.read(address), {**routes(subject, loops), **(more or {})}).start()
        log.info("health.listens", extra={"what": what, "address": address, "port": listener.port})
    manager = manager or systemd.take(os.environ)
    if listener is not None or manager is not None:
        Teller(subject, manager, loops).start()
    return listener


def routes(subject: Subject, loops: Loops = pulse.standings) -> dict[str, Route]:
    """Those of every process."""
    return {
        "/health/liveness": lambda _: liveness(loops()),
        "/health/readiness": lambda _: readiness(_asked(subject)),
    }


def _asked(subject: Subject) -> Readiness:
    return Readiness(stopping=True) if subject.stopping else Readiness(subject.parts())


def liveness(loops: Sequence[Standing]) -> Answer:
    """Which loops this process has, and which of them hangs and since when; 503 when one does."""
    hanging = [one for one in loops if one.hangs]
    body: dict[str, Any] = {"status": "hanging" if hanging else "alive"}
    if hanging:
        now = datetime.now(UTC)
        body["hanging"] = {one.name: (now - timedelta(seconds=one.still_s)).isoformat() for one in hanging}
    body["still_s"] = {one.name: round(one.still_s, 1) for one in loops}
    return Answer.json(_UNREADY if hanging else 200, body)


def readiness(found: Readiness) -> Answer:
    """503 unless it is ready, with what is missing."""
    parts = {name: {"ok": part.ok, "detail": part.detail} for name, part in found.parts.items()}
    return Answer.json(200 if found.ready else _UNREADY, {"status": found.status, "parts": parts})


class Teller(threading.Thread):
    """Looks at the loops every second: logs where one hangs, and tells systemd while none does."""

    def __init__(self, subject: Subject, manager: systemd.Manager | None, loops: Loops = pulse.standings) -> None:
        super().__init__(name="health-teller", daemon=True)
        self._subject = subject
        self._manager = manager
        self._loops = loops
        watchdog_s = None if manager is None else manager.watchdog_s
        self._pause_s = _LOOK_S if watchdog_s is None else min(_LOOK_S, watchdog_s / 4)
        self._hanging: set[str] = set()
        self._stage: Literal["starting", "ready", "stopping"] = "starting"
        self._ended = threading.Event()
        self._said = ""
        self._said_at = -_SAY_S

    def run(self) -> None:
        while not self._ended.is_set():
            alive = self._look()
            if self._manager is not None:
                self._tell(self._manager, alive)
            self._ended.wait(self._pause_s)

    def end(self) -> None:
        """Say nothing more."""
        self._ended.set()

    def _look(self) -> bool:
        found = [loop for loop in self._loops() if loop.hangs]
        hanging = {loop.name for loop in found}
        for loop in found:
            if loop.name not in self._hanging:
                facts = {"loop": loop.name, "still_s": round(loop.still_s, 1), "at": loop.at}
                log.error("health.hangs", extra=facts)
        for name in self._hanging - hanging:
            log.info("health.moves_again", extra={"loop": name})
        self._hanging = hanging
        return not hanging

    def _tell(self, manager: systemd.Manager, alive: bool) -> None:
        if alive:
            manager.say(WATCHDOG=1)
            if self._stage != "stopping" and (
                self._stage != "ready" or self._subject.stopping or time.monotonic() - self._said_at >= _SAY_S
            ):
                self._say_how_it_stands(manager)
        else:
            self._status(manager, f"hanging: {', '.join(sorted(self._hanging))}")

    def _say_how_it_stands(self, manager: systemd.Manager) -> None:
        found = _asked(self._subject)
        self._said_at = time.monotonic()
        if found.stopping:
            self._stage = "stopping"
            manager.say(STOPPING=1)
        elif found.ready and self._stage == "starting":
            self._stage = "ready"
            manager.say(READY=1)
        self._status(manager, str(found))

    def _status(self, manager: systemd.Manager, text: str) -> None:
        if text != self._said:
            self._said = text
            manager.say(STATUS=text)
