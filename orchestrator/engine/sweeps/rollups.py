"""Runs that ended are counted, by minute."""

from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.core.facts import Swept
from orchestrator.engine.faults import fp
from orchestrator.ledger import rollups
from orchestrator.ledger.tx import Ledger

AGAIN = timedelta(seconds=30)
"""A page with runs that go on is looked at so often."""


def count(ledger: Ledger, again: timedelta = AGAIN) -> Swept:
    """Count runs that ended since the last time: the next ones by their ids, and those that went on then.

    What was counted and the place to go on from are one commit, so that every run is counted once, whoever dies
    when. A run that is retried and ends again stays counted as it ended first.
    """

    def following(tx: Connection) -> tuple[int, int]:
        found = rollups.count_next(tx)
        fp("rollup.counted")
        return found

    def once_more(tx: Connection) -> tuple[int, int]:
        found = rollups.count_again(tx, again)
        fp("rollup.counted")
        return found

    looked, fresh = ledger.retry(following)
    fp("rollup.committed")
    pages, old = ledger.retry(once_more)
    fp("rollup.committed")
    return Swept(fresh + old, more=looked == rollups.PAGE or pages == rollups.PAGES)
