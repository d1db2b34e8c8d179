"""The key with which programs on this machine reach the API of `orchestrator dev`."""

import contextlib
from typing import Final

from orchestrator.core.access import Actor, Grant, Role
from orchestrator.core.reach import PLAIN, Reach
from orchestrator.engine.access import keys
from orchestrator.errors import KeyNotFound
from orchestrator.ledger.tx import Ledger

NAME: Final = "dev"
_ACTOR: Final = Actor("orchestrator dev")


def fresh_key(database_url: str, reach: Reach = PLAIN) -> str:
    """A new one at each start: the ledger has nothing of the one before that could be shown. That one ends."""
    ledger = Ledger.connect(
        database_url, reach=reach, pool_size=1, statement_timeout=reach.role_limit, name="orchestrator dev"
    )
    try:
        with contextlib.suppress(KeyNotFound):
            keys.revoke(ledger, NAME, _ACTOR, reason="started again")
        return keys.create(ledger, NAME, Grant(Role.ADMIN), _ACTOR).text
    finally:
        ledger.close()
