"""Asking a process for its health, as a kubelet does."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from tests.support.eventually import eventually


@dataclass(frozen=True)
class Said:
    """An answer, and how long it took."""

    status: int
    body: Mapping[str, Any]
    took_s: float


def ask(port: int, what: str) -> Said:
    """`liveness` or `readiness`."""
    began = monotonic()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{what}", timeout=10) as answer:
            return Said(answer.status, json.loads(answer.read()), monotonic() - began)
    except urllib.error.HTTPError as exc:
        with exc:
            return Said(exc.code, json.loads(exc.read()), monotonic() - began)


def live(port: int) -> Said:
    """Which loops move."""
    return ask(port, "liveness")


def ready(port: int) -> Said:
    """Whether it takes work."""
    return ask(port, "readiness")


def until_ready(port: int) -> Said:
    """Wait until it is."""

    def check() -> Said | None:
        try:
            said = ready(port)
        except OSError:  # it does not listen yet
            return None
        assert said.status == 200, said.body
        return said

    found = eventually(check, message="it becomes ready")
    assert found is not None
    return found
