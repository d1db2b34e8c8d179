"""What the client over HTTP and its handles share: the way to the API, lists of pages, and waiting."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Final, Self, TypeVar

import httpx2
from pydantic import JsonValue

from orchestrator.client.remote.transport import Transport, made, read
from orchestrator.client.remote.waiting import Waits
from orchestrator.core.access import Actor
from orchestrator.errors import SettingsInvalid, UsageError
from orchestrator.settings import Settings, variable
from orchestrator.settings.urls import mask_url

T = TypeVar("T")

_MOST: Final = 500
"""Items of one page."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Of a list."""

    items: list[Any]
    next: str | None


class HttpAccess:
    """Safe to share between threads; close it, or use it in a `with`."""

    pause_s: ClassVar = 1.0
    """As `Access.pause_s`: a key has so many requests a minute."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """`url` is that of the API, such as `https://flows.example.com`.

        Raises:
            UsageError: it is not the URL of an API, or that is no key.
        """
        _check_url(url)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise UsageError("The API key has a character that no key has. Fix: set ORCHESTRATOR_API_KEY to a key.")
        self.transport = Transport(url, key)
        self.waits = Waits(self.transport)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """From ORCHESTRATOR_API_URL and ORCHESTRATOR_API_KEY.

        Raises:
            SettingsInvalid: a variable is unknown, wrong or missing.
        """
        settings = Settings.from_env(os.environ if env is None else env)
        if settings.api_url is None:
            raise SettingsInvalid(f"{variable('api_url')} is not set. Fix: set it to the URL of `orchestrator api`.")
        return cls(settings.api_url, None if settings.api_key is None else settings.api_key.get_secret_value())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. Nothing may be asked afterwards."""
        self.waits.close()
        self.transport.close()

    def health(self) -> Mapping[str, Any]:
        """What `/health` says, also when that is that the API is not well."""
        return read(dict[str, Any], self.transport.peek("/health"))

    # ---- for the handles ----

    def listed(self, kind: type[T], path: str, query: Mapping[str, Any], limit: int | None) -> list[T]:
        """As many as asked for, from as many pages as it takes; None: of a list that has no pages."""
        found: list[T] = []
        given = dict(query)
        while limit is None or len(found) < limit:
            if limit is not None:
                given["limit"] = min(limit - len(found), _MOST)
            page = self.transport.get(_Page, path, given)
            found += [made(kind, item) for item in page.items]
            if page.next is None:
                break
            given = {**query, "cursor": page.next}
        return found

    def value(self, path: str) -> JsonValue:
        """A value with its secrets. If there are any, they are asked for, which the audit keeps.

        Raises:
            Forbidden: there are secrets in it, and this key may not see them.
        """
        found: Mapping[str, Any] = self.transport.get(dict[str, Any], path)
        if found["masked"]:
            found = self.transport.secret(dict[str, Any], f"{path}/reveal")
        shown: JsonValue = found["value"]
        return shown

    def shown_value(self, path: str) -> JsonValue:
        """The same, with `***` for secrets."""
        found: Mapping[str, JsonValue] = self.transport.get(dict[str, Any], path)
        return found["value"]


def _check_url(url: str) -> None:
    """
    Raises:
        UsageError: it is not the URL of an API.
    """
    try:
        read = httpx2.URL(url)
        known = read.scheme in ("http", "https") and read.host and not read.userinfo and " " not in url
    except httpx2.InvalidURL:
        known = False
    if not known:
        raise UsageError(
            f"{mask_url(url)!r} is not the URL of an API. Fix: give one such as https://flows.example.com; the key has "
            "a variable of its own."
        )


def nobody_else(by: str | Actor | None) -> None:
    """
    Raises:
        UsageError: somebody is named as the author of what is done.
    """
    if by is not None:
        name = by if isinstance(by, str) else by.name
        raise UsageError(
            f"{name!r} is named as the author, and over HTTP the author of what is done is whoever has the API key. "
            "Fix: name nobody (`by`, --as), or use a key of theirs."
        )
