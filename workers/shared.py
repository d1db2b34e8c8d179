"""A page of memory shared by a worker and its pool children: the stop flag, and what each child runs right now."""

import hashlib
import mmap
import struct
from typing import Final

from orchestrator.core.facts import Lease

_SLOTS: Final = 512
_SLOT: Final = struct.Struct("<Q16s")
_FIRST: Final = 64  # the flag has a cache line of its own


def digest(run_id: object, step_key: str, version: int) -> bytes:
    """Sixteen bytes that stand for one claim."""
    return hashlib.blake2b(f"{run_id}/{step_key}/{version}".encode(), digest_size=16).digest()


class Shared:
    """Made before the fork. Writers write their own slot only, so there is nothing to lock."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FIRST + _SLOTS * _SLOT.size)

    @property
    def stopping(self) -> bool:
        """Whether a warm shutdown began."""
        return self._memory[0] != 0

    def stop(self) -> None:
        """Begin it: nothing new is claimed from now on. Safe in a signal handler."""
        self._memory[0] = 1

    def enter(self, slot: int, pid: int, lease: Lease) -> None:
        """The child of `slot` starts this handler."""
        _SLOT.pack_into(self._memory, self._at(slot), pid, digest(lease.run_id, lease.step_key, lease.fence))

    def leave(self, slot: int) -> None:
        """The child of `slot` runs no handler."""
        _SLOT.pack_into(self._memory, self._at(slot), 0, bytes(16))

    def runs(self, pid: int, wanted: bytes) -> bool:
        """Whether the child `pid` runs this claim's handler at this moment."""
        return any(_SLOT.unpack_from(self._memory, self._at(slot)) == (pid, wanted) for slot in range(_SLOTS))

    @property
    def busy(self) -> bool:
        """Whether any child runs a handler at this moment."""
        return any(_SLOT.unpack_from(self._memory, self._at(slot))[0] for slot in range(_SLOTS))

    @staticmethod
    def _at(slot: int) -> int:
        return _FIRST + (slot % _SLOTS) * _SLOT.size
