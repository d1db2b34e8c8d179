"""Where a process listens, as people write it: `:8081`, `127.0.0.1:8081`, `[::1]:8081`, `worker-3.internal:8081`."""

import re
from dataclasses import dataclass
from typing import Final

_SHAPE: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>\d{1,5})")
_FIX: Final = "Fix: write :8081 for every address of this machine, 127.0.0.1:8081 or [::1]:8081 for this machine only"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An empty host is every address of this machine; port 0 is a free one."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> "ListenAddress":
        """
        Raises:
            ValueError: it is not an address with a port; with the fix.
        """
        found = _SHAPE.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"it is not an address with a port. {_FIX}")
        port = int(found["port"])
        if port > 65535:
            raise ValueError(f"{port} is not a port, which ends at 65535. {_FIX}")
        return cls(found["v6"] or found["host"] or "", port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
