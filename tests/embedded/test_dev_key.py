"""The key of `orchestrator dev`."""

from orchestrator.core.access import Role
from orchestrator.dev.access import fresh_key
from orchestrator.engine.access import keys
from orchestrator.ledger.tx import Ledger


def test_each_start_makes_a_key_and_ends_the_one_before(db_url: str) -> None:
    first, second = fresh_key(db_url), fresh_key(db_url)
    ledger = Ledger.connect(db_url)
    try:
        assert keys.authenticate(ledger, first) is None
        row = keys.authenticate(ledger, second)
        assert row is not None
        assert (row.name, row.role) == ("dev", Role.ADMIN)
    finally:
        ledger.close()
