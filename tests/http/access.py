"""Keys of every kind, and an API that asks for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Actor, Grant, Role, Scope
from orchestrator.engine.access import keys
from orchestrator.http.app import create_app
from orchestrator.ledger.access import Expiry
from orchestrator.settings import Settings

ROOT = Actor("root")
UNLIMITED: Final = dict.fromkeys((name for name in Settings.model_fields if name.startswith("rate_")), 0)
"""For tests that ask more than anybody may."""


@contextmanager
def served(settings: Settings, url: str = "https://flows.example", **changes: object) -> Iterator[TestClient]:
    """As behind a proxy that ends TLS."""
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, url, client=("192.0.2.7", 50000), raise_server_exceptions=False) as made:
        yield made


def key(
    stack: Client,
    role: Role = Role.ADMIN,
    scopes: frozenset[Scope] = frozenset(),
    flows: frozenset[str] = frozenset(),
    *,
    name: str = "",
    expires: timedelta | None = None,
) -> str:
    """The text of a new one."""
    name = name or f"{role} {len(keys.listed(stack.ledger, ended=True))}"
    return keys.create(stack.ledger, name, Grant(role, scopes, flows), ROOT, Expiry(after=expires)).text


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
