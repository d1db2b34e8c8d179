"""The way to a provider of identities and back, as a browser goes it."""

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.testclient import TestClient

SITE: Final = "https://flows.example"
START, BACK = "/api/session/oidc", "/api/session/oidc/callback"


def sent(door: TestClient, path: str = START) -> str:
    """Where the provider is told to be asked."""
    answer = door.get(path, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def back_of(location: str) -> str:
    """Where the provider sends the browser back to, as a path."""
    back = urlsplit(location)
    assert f"{back.scheme}://{back.netloc}{back.path}" == f"{SITE}{BACK}"
    return f"{back.path}?{back.query}"


def come_back(door: TestClient, path: str) -> Any:
    return door.get(path, follow_redirects=False, headers={"Sec-Fetch-Site": "cross-site"})


def asked_of(place: str) -> dict[str, str]:
    """The query of an address."""
    return {name: one[0] for name, one in parse_qs(urlsplit(place).query).items()}
