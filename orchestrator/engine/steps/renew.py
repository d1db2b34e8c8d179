"""Prolong leases."""

from collections.abc import Sequence
from datetime import timedelta

from orchestrator.core.facts import LeaseBeat, Renewal
from orchestrator.engine.faults import fp
from orchestrator.ledger import claims
from orchestrator.ledger.tx import Ledger


def renew(ledger: Ledger, beats: Sequence[LeaseBeat], lease: timedelta) -> list[Renewal]:
    """One statement for all leases of a process. A claim that was superseded comes back `alive` False."""
    if not beats:
        return []
    fp("renew.before")
    with ledger.auto() as tx:
        renewals = claims.renew(tx, beats, lease)
    fp("renew.committed")
    return renewals
