"""What a service of `Type=notify` says to systemd: that it is ready, that it lives, that it stops."""

import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

from orchestrator.observe.logs import log

_SOCKET: Final = "NOTIFY_SOCKET"


class Manager:
    """Whoever started this process and waits for its words. Saying something never blocks, and never fails: a lost
    word is said again by the next."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """How long it waits for a sign of life; None: it does not."""
        self._failed = False

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Manager | None":
        """None: nobody waits. What this process starts inherits the variables; see `take`."""
        address = env.get(_SOCKET, "")
        if not address:
            return None
        if not address.startswith(("/", "@")):
            log.warning("systemd.ignored", extra={"socket": address, "reason": "only sockets of this machine are used"})
            return None
        usec = env.get("WATCHDOG_USEC", "")
        return cls(address, int(usec) / 1e6 if usec.isdigit() and int(usec) else None)

    def say(self, **words: str | int) -> None:
        """`say(READY=1, STATUS="…")`."""
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in words.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.sendto(text.encode(), self._address)
        except OSError as exc:
            if not self._failed:
                log.warning("systemd.unheard", extra={"error": str(exc)})
            self._failed = True
        else:
            self._failed = False


def take(env: MutableMapping[str, str]) -> Manager | None:
    """As `Manager.of`, and out of the environment: a program that a step starts must not speak for this service."""
    found = Manager.of(env)
    for name in (_SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID"):
        env.pop(name, None)
    return found
