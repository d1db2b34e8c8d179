"""How a process reaches PostgreSQL."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Pooler(StrEnum):
    """What stands in front of PostgreSQL."""

    NONE = "none"  # nothing: a connection is a session
    SESSION = "session"  # a connection has one session until it is closed; the next one finds it reset
    TRANSACTION = "transaction"  # each transaction has whatever session is free, as its role begins


@dataclass(frozen=True, slots=True)
class Reach:
    """How a process reaches PostgreSQL. `role_limit`: the limit of a statement that the role has, which counts behind
    a pooler in transaction mode. `overflow`: connections beside those that are kept, under load."""

    pooler: Pooler = Pooler.NONE
    role_limit: timedelta = timedelta(seconds=5)
    overflow: int = 20


PLAIN: Final = Reach()
