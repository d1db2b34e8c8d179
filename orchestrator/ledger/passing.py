"""Which errors of the database pass by themselves."""

from typing import Final

from sqlalchemy.exc import TimeoutError as PoolExhausted

from orchestrator import full_disk
from orchestrator.ledger.tx import is_disconnect, sqlstate

IN_THE_WAY: Final = frozenset({"57014", "55P03", "40P01"})
"""Statement timeout, lock timeout, deadlock: something else was in the way. The same statement may work in the same
transaction, after a return to a savepoint."""
_NOT_DONE: Final = IN_THE_WAY | {"40001", "25006"}
"""Ended before any commit: also a serialization failure, and a standby that is read-only."""
_NO_ROOM: Final = "53"
"""The class of what the server has too little of: disk, memory, connections."""
_FAULT: Final = "XX000"
"""Among others a used-up quota and a limit on the size of files, which have no code of their own."""


def passing(exc: BaseException) -> bool:
    """Whether asking again later may help. After a disconnect the outcome is unknown: re-read first."""
    code = sqlstate(exc) or ""
    if code == _FAULT:
        return full_disk.complaint(str(getattr(exc, "orig", exc))) is not None
    return is_disconnect(exc) or isinstance(exc, PoolExhausted) or code in _NOT_DONE or code.startswith(_NO_ROOM)
