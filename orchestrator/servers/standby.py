"""The standby that the settings name, for what need not be of this very moment."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from orchestrator.core.secrets import names_with
from orchestrator.ledger.replica import Replica
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from orchestrator.settings.urls import mask_url


def standby(
    settings: Settings,
    told: Callable[[str, str | None], None],
    *,
    name: str,
    pool_size: int,
    statement_timeout: timedelta,
) -> Replica | None:
    """None: there is none. `told` hears its URL, without a password, and why it is left out (None: it is used again).
    `name` is that of its sessions."""
    if settings.database_read_url is None:
        return None
    url = settings.database_read_url.get_secret_value()
    ledger = Ledger.connect(
        url,
        reach=settings.reach(),
        pool_size=pool_size,
        statement_timeout=statement_timeout,
        name=name,
    )
    ledger.secret_names = names_with(settings.secret_names)
    return Replica(ledger, settings.database_read_max_lag, partial(told, mask_url(url)))
