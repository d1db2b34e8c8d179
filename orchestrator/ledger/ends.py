"""Runs that end in a transaction are announced once it is committed: here, and nowhere else, whoever ended them."""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection

_KEY: Final = "orchestrator.ended"


def begin(tx: Connection) -> list[UUID]:
    """What `note` fills from now on, for whoever commits this transaction."""
    noted: list[UUID] = []
    tx.info[_KEY] = noted
    return noted


def note(tx: Connection, run_id: UUID) -> None:
    """This run ends with the transaction. In a transaction of the caller's own it is not announced: we do not see its
    commit."""
    noted: list[UUID] | None = tx.info.get(_KEY)
    if noted is not None:
        noted.append(run_id)
