"""The servers a test runs against: embedded ones, or those the environment names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from orchestrator.errors import EmbeddedMissing
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.valkey import EmbeddedValkey


@dataclass(frozen=True)
class Server:
    """A PostgreSQL. `admin_url` may create databases."""

    admin_url: str
    embedded: EmbeddedPostgres | None = None

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{database}"))


@dataclass(frozen=True)
class Broker:
    """A Valkey or Redis."""

    url: str
    embedded: EmbeddedValkey | None = None

    def flush(self) -> None:
        """Remove every key of every database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@contextmanager
def postgres(folder: Path, external_url: str | None = None) -> Iterator[Server]:
    """A running PostgreSQL, stopped at the end unless it is the user's."""
    if external_url:
        scheme, _, rest = external_url.partition("://")
        yield Server(f"{scheme.partition('+')[0]}://{rest}")
        return
    server = EmbeddedPostgres(folder, durable=False)
    _start(server)
    try:
        yield Server(server.url_of("postgres"), server)
    finally:
        server.stop(immediate=True)


@contextmanager
def broker(folder: Path, external_url: str | None = None) -> Iterator[Broker]:
    """A running Valkey, stopped at the end unless it is the user's."""
    if external_url:
        yield Broker(external_url)
        return
    server = EmbeddedValkey(folder, durable=False)
    _start(server)
    try:
        yield Broker(server.url, server)
    finally:
        server.stop(immediate=True)


def _start(server: EmbeddedPostgres | EmbeddedValkey) -> None:
    try:
        server.start()
    except EmbeddedMissing as exc:
        pytest.skip(str(exc))
