"""Requests to the API: repeated where that is harmless, and its problems as the errors that they stand for."""

import random
import time
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import TypeAdapter

from orchestrator import errors
from orchestrator.core.release import release
from orchestrator.core.values import dumps, loads
from orchestrator.errors import OrchestratorError, Unavailable

T = TypeVar("T")

LONGEST_WAIT_S: Final = 50.0
"""Of one request that waits: the API answers after 55 s, proxies give up after 60."""
_TRIES: Final = 4
_FIRST_PAUSE_S: Final = 0.3
_TIMEOUT_S: Final = 30.0
_SAFE: Final = frozenset({"GET", "PUT", "DELETE"})


class Transport:
    """One connection pool. Safe to share between threads."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {"User-Agent": f"flow-orchestrator/{release()}", "Accept": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self.url = url.rstrip("/").removesuffix("/api")
        self._http = httpx2.Client(base_url=f"{self.url}/api", headers=headers, timeout=_TIMEOUT_S)

    def close(self) -> None:
        self._http.close()

    def get(self, kind: type[T], path: str, query: Mapping[str, Any] | None = None, *, wait_s: float = 0.0) -> T:
        """What is there. Seconds of a wait are part of the query."""
        return TypeAdapter(kind).validate_json(self._ask("GET", path, query, wait_s=wait_s).content)

    def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        return self._ask("GET", path, query).text

    def send(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Do something. Only what has an idempotency key, or may be done twice, is sent again by itself."""
        return TypeAdapter(kind).validate_json(self._ask(method, path, query, body=body, headers=headers).content)

    def tell(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        """As `send`, where the answer says nothing."""
        self._ask(method, path, None, body=body, headers=headers)

    # ----

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> httpx2.Response:
        given = dict(headers or {})
        if body is not None:
            given["Content-Type"] = "application/json"
        request = self._http.build_request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            content=None if body is None else dumps(body),
            headers=given,
            timeout=_TIMEOUT_S + wait_s,
        )
        harmless = method in _SAFE or "Idempotency-Key" in given
        for tried in range(1, _TRIES + 1):
            try:
                answer = self._http.send(request)
            except httpx2.TransportError as exc:
                if tried == _TRIES or not (harmless or isinstance(exc, httpx2.ConnectError)):
                    raise self._away(exc) from exc
                pause_s = _FIRST_PAUSE_S * 2 ** (tried - 1)
            else:
                if answer.status_code not in (429, 503) or tried == _TRIES or not harmless:
                    return self._checked(answer)
                pause_s = min(float(answer.headers.get("Retry-After", "1") or 1), 10.0)
            time.sleep(pause_s * random.uniform(0.75, 1.25))
        raise AssertionError  # the last try returns or raises

    def _away(self, exc: Exception) -> Unavailable:
        return Unavailable(
            f"The API at {self.url} cannot be reached: {str(exc) or type(exc).__name__}. "
            "Fix: see that `orchestrator api` runs there, and that ORCHESTRATOR_API_URL is its address."
        )

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.is_success or answer.status_code == 304:
            return answer
        try:
            problem = loads(answer.content)
            code, detail = str(problem["code"]), str(problem["detail"])
        except (errors.ValueRefused, KeyError, TypeError):
            code, problem = "", {}
            detail = f"The API at {self.url} answered {answer.status_code}, and not as the API does."
        fix = problem.get("fix") or "see that ORCHESTRATOR_API_URL is the address of `orchestrator api`."
        facts = problem.get("facts") or {}
        raise _kind(code, answer.status_code)(f"{detail} Fix: {fix}", **facts)


def part(text: object) -> str:
    """A part of a path."""
    return quote(str(text), safe="")


def _kind(code: str, status: int) -> type[OrchestratorError]:
    """The class of that code; where there is none, the one that says as much as the status does."""
    for kind in _below(OrchestratorError):
        if kind.code == code:
            return kind
    if status in (429, 503) or status >= 500:
        return errors.Unavailable
    by_status = {404: errors.NotFound, 409: errors.Conflict, 412: errors.Conflict}
    return by_status.get(status, errors.UsageError)


def _below(kind: type[OrchestratorError]) -> list[type[OrchestratorError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in _below(sub))]
