"""All that is done with a ledger as one transaction: what is written beside it exists if and only if that does."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.ledger import ends
from orchestrator.ledger.tx import Ledger


class Joined(Ledger):
    """A ledger all of whose transactions are savepoints of one, which begins with it. What fails undoes itself alone,
    as it would without this; nothing stays before `commit`. Not for two threads at once."""

    def __init__(self, whole: Ledger) -> None:
        vars(self).update(vars(whole))  # the same process: its connections, and what it knows
        self._all = whole.opened()
        self._noted = ends.begin(self._all)
        self._begun = self._all.begin()

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        with self._all.begin_nested():
            yield self._all

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        """What is written stays, also where the caller then refuses something; but for what PostgreSQL refuses."""
        nested = self._all.begin_nested()
        try:
            yield self._all
        except DBAPIError:
            nested.rollback()
            raise
        except BaseException:
            nested.commit()
            raise
        nested.commit()

    def commit(self) -> None:
        """What was done is true from now on. Nothing more may be asked."""
        try:
            self._begun.commit()
        finally:
            self.roll_back()
        self._announce(self._noted)

    def roll_back(self) -> None:
        """Undo what is not committed, and give the connection back. Never raises: it may be lost."""
        with suppress(SQLAlchemyError):
            self._all.close()
