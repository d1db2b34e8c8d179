"""Requests to the API: repeated where that is harmless, and its problems as the errors that they stand for.

A request is a value (`Ask`), and what becomes of it is decided without sending anything (`Tries`, `checked`): whoever
waits on an event loop and whoever blocks a thread have that in common.
"""

import asyncio
import random
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote
from uuid import uuid4

import httpx2
from pydantic import TypeAdapter, ValidationError

from orchestrator import errors, forks
from orchestrator.core.release import release
from orchestrator.core.values import dumps, loads
from orchestrator.errors import OrchestratorError, Unavailable, UsageError
from orchestrator.observe.traces import incoming

T = TypeVar("T")

TRIES: Final = 4
PATIENT_TRIES: Final = 10
"""For somebody who waits anyway: about half a minute."""
_FIRST_PAUSE_S: Final = 0.3
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_TOLD_S: Final = 60.0
"""As long as the window of a rate."""
_TIMEOUT_S: Final = 30.0
_WRONG_URL: Final = "see that ORCHESTRATOR_API_URL is the address of `orchestrator api`."
_FIXES: Final = {
    "unauthenticated": "set ORCHESTRATOR_API_KEY to a key of that API which works (`orchestrator key create`).",
}
"""What a request lacks, in the words of whoever has the client."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `again`: it may be done twice, so it is sent again by itself when its answer is lost."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    wait_s: float = 0.0
    """The server may take so much longer than usual."""
    tries: int = TRIES

    @property
    def is_harmless(self) -> bool:
        return self.again or self.method == "GET" or "Idempotency-Key" in self.headers

    def request(self, http: "httpx2.Client | httpx2.AsyncClient") -> httpx2.Request:
        json = {} if self.body is None else {"Content-Type": "application/json"}
        return http.build_request(
            self.method,
            self.path,
            params={name: value for name, value in self.query.items() if value is not None},
            content=None if self.body is None else dumps(self.body),
            headers={**incoming.current(), **self.headers, **json},
            timeout=_TIMEOUT_S + self.wait_s,
        )


class Tries:
    """How often one request was sent, and whether it is sent again."""

    def __init__(self, url: str, ask: Ask) -> None:
        self._url, self._ask, self._tried = url, ask, 0

    def failed(self, exc: httpx2.RequestError) -> float:
        """No answer came: seconds until the next try.

        Raises:
            Unavailable: there is none.
        """
        self._tried += 1
        may = self._ask.is_harmless or isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout)  # nothing was sent
        if self._tried >= self._ask.tries or not may:
            raise Unavailable(
                f"The API at {self._url} cannot be reached: {str(exc).rstrip('.') or type(exc).__name__}. "
                "Fix: see that `orchestrator api` runs there, and that ORCHESTRATOR_API_URL is its address."
            ) from exc
        return self._pause_s()

    def answered(self, answer: httpx2.Response) -> float | None:
        """Seconds until the next try; None: this is the answer."""
        self._tried += 1
        refused = answer.status_code == 429  # then nothing was done
        if not (refused or (answer.status_code == 503 and self._ask.is_harmless)) or self._tried >= self._ask.tries:
            return None
        told = answer.headers.get("Retry-After", "")
        return max(self._pause_s(), min(float(told), _LONGEST_TOLD_S) if told.isdecimal() else 0.0)

    def _pause_s(self) -> float:
        return min(_FIRST_PAUSE_S * 2.0 ** (self._tried - 1), _LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)


class Transport:
    """Connections to one API. Safe to share between threads; what is awaited belongs to one event loop."""

    def __init__(self, url: str, key: str | None) -> None:
        self._headers = {"User-Agent": f"flow-orchestrator/{release()}", "Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self.url = url.rstrip("/").removesuffix("/api")
        self._open()
        forks.watch(self)

    def _open(self) -> None:
        self._http = httpx2.Client(base_url=f"{self.url}/api", headers=self._headers)

    def after_fork(self) -> None:
        """See `forks.Forked`: the connections are the parent's."""
        forks.inherited(self._http)
        self._open()

    def awaited(self) -> httpx2.AsyncClient:
        """For `asked` on an event loop: as many connections as anybody waits for."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        return httpx2.AsyncClient(base_url=f"{self.url}/api", headers=self._headers, limits=limits)

    def close(self) -> None:
        self._http.close()

    def peek(self, path: str) -> httpx2.Response:
        """What is at a path beside the API's, asked for once and whatever the answer is.

        Raises:
            Unavailable: it cannot be reached.
        """
        ask = Ask("GET", f"{self.url}{path}", tries=1)
        try:
            return self._send(ask)
        except httpx2.RequestError as exc:
            Tries(self.url, ask).failed(exc)
            raise

    def get(self, kind: type[T], path: str, query: Mapping[str, Any] | None = None) -> T:
        """What is there."""
        return read(kind, self.ask(Ask("GET", path, query or {})))

    def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        return self.ask(Ask("GET", path, query or {})).text

    def post(
        self,
        kind: type[T],
        path: str,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        again: bool = False,
    ) -> T:
        """Do something, with an idempotency key of its own if none is given, so that a lost answer may be asked for
        again. What may be done twice as it is (`again`) takes none."""
        return read(
            kind, self.ask(Ask("POST", path, query or {}, body, again=True) if again else do(path, body, query, key))
        )

    def secret(self, kind: type[T], path: str, body: object = None) -> T:
        """Do something that is answered with a secret. Such answers are not kept, so there are no keys for them, and
        this is sent once."""
        return read(kind, self.ask(Ask("POST", path, body=body)))

    def ask(self, ask: Ask) -> httpx2.Response:
        """
        Raises:
            Unavailable: the API cannot be reached.
            OrchestratorError: it refuses, as the class that its `code` says.
        """
        forks.notice()
        tries = Tries(self.url, ask)
        while True:
            try:
                answer = self._send(ask)
            except httpx2.RequestError as exc:
                pause_s: float | None = tries.failed(exc)
            else:
                if (pause_s := tries.answered(answer)) is None:
                    return checked(answer, self.url)
            time.sleep(pause_s or 0.0)

    def _send(self, ask: Ask) -> httpx2.Response:
        try:
            return self._http.send(ask.request(self._http))
        except RuntimeError as exc:
            if not self._http.is_closed:
                raise
            raise UsageError("This client is closed. Fix: make another one, or close it later.") from exc

    async def asked(self, http: httpx2.AsyncClient, ask: Ask) -> httpx2.Response:
        """As `ask`, on an event loop."""
        tries = Tries(self.url, ask)
        while True:
            try:
                answer = await http.send(ask.request(http))
            except httpx2.RequestError as exc:
                pause_s: float | None = tries.failed(exc)
            else:
                if (pause_s := tries.answered(answer)) is None:
                    return checked(answer, self.url)
            await asyncio.sleep(pause_s or 0.0)

    def lines(self, path: str, query: Mapping[str, Any]) -> Iterator[bytes]:
        """The lines of an answer that is read while it is made. Not sent again: some of it was read.

        Raises:
            Unavailable: the API cannot be reached, or the answer broke off.
        """
        ask = Ask("GET", path, query, tries=1)
        rest = b""
        try:
            answer = self._http.send(ask.request(self._http), stream=True)
            try:
                if not answer.is_success:
                    answer.read()
                    checked(answer, self.url)
                for chunk in answer.iter_bytes():  # not `iter_lines`, which also breaks at separators within texts
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
            finally:
                answer.close()
        except httpx2.RequestError as exc:
            Tries(self.url, ask).failed(exc)


def do(path: str, body: object = None, query: Mapping[str, Any] | None = None, key: str | None = None) -> Ask:
    """What is done once, however often it is sent."""
    return Ask("POST", path, query or {}, body, {"Idempotency-Key": key or uuid4().hex})


def part(text: object) -> str:
    """A part of a path."""
    return quote(str(text), safe="")


@lru_cache(maxsize=256)
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once: it takes milliseconds."""
    return _adapter(kind)


def read(kind: type[T], answer: httpx2.Response) -> T:
    """What the answer says."""
    try:
        found: T = adapter(kind).validate_json(answer.content)
    except ValidationError as exc:
        raise _unread(str(answer.url), answer.headers.get("Content-Type", ""), exc) from exc
    return found


def made(kind: type[T], plain: object) -> T:
    """Of a part of an answer."""
    try:
        found: T = adapter(kind).validate_python(plain)
    except ValidationError as exc:
        raise _unread("the API", "application/json", exc) from exc
    return found


def _unread(where: str, media_type: str, exc: ValidationError) -> Unavailable:
    """What answers is no API of ours, or one of another release."""
    if "json" not in media_type:
        return Unavailable(
            f"{where} answers {media_type.partition(';')[0] or 'something'}, and not as the API does. Fix: {_WRONG_URL}"
        )
    first = exc.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    return Unavailable(
        f"{where} answers what this release ({release()}) cannot read: {place}: {first['msg']}. "
        "Fix: install the release here that the API has."
    )


def checked(answer: httpx2.Response, url: str) -> httpx2.Response:
    """
    Raises:
        OrchestratorError: it is a problem, or not of this API.
    """
    if answer.is_success:
        return answer
    try:
        problem = loads(answer.content)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (errors.ValueRefused, KeyError, TypeError):
        code, problem = "", {}
        detail = f"The API at {url} answered {answer.status_code}, and not as the API does."
    fix = _FIXES.get(code) or problem.get("fix") or _WRONG_URL
    facts = problem.get("facts") or {}
    raise _kind(code, answer.status_code)(f"{detail} Fix: {fix}", **facts)


def _kind(code: str, status: int) -> type[OrchestratorError]:
    """The class of that code; where there is none, the one that says as much as the status does."""
    for kind in _below(OrchestratorError):
        if kind.code == code:
            return kind
    if status in (429, 503) or status >= 500:
        return errors.Unavailable
    by_status = {
        401: errors.Unauthenticated,
        403: errors.Forbidden,
        404: errors.NotFound,
        409: errors.Conflict,
        412: errors.Conflict,
    }
    return by_status.get(status, errors.UsageError)


def _below(kind: type[OrchestratorError]) -> list[type[OrchestratorError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in _below(sub))]
