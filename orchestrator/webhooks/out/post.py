"""One POST to an address that was checked, and to no other."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from ipaddress import ip_address
from ssl import SSLContext
from typing import Final

import httpcore2

from orchestrator.webhooks.addresses import Address
from orchestrator.webhooks.out.bounds import BOUNDS, Bounds, Deadline, within
from orchestrator.webhooks.out.model import AddressRules
from orchestrator.webhooks.out.places import Place, check_addresses

_ADDRESSES: Final = 4
"""Addresses of a name that are tried."""
DRAINED: Final = 64 * 1024
"""Bytes of an answer that are read, so that the other side can end in peace; nothing is done with them."""
_DRAIN_S: Final = 1.0

trusted = cache(httpcore2.default_ssl_context)
"""Who signs certificates, as the system says; once for a process."""


@dataclass(frozen=True, slots=True)
class Net:
    """How the outside is reached: as it is, but for tests."""

    bounds: Bounds = BOUNDS
    tls: SSLContext | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer that matters."""

    status: int
    retry_after: str | None


class NotReached(Exception):
    """No answer came; says why in words for people."""


def post(
    place: Place, headers: Mapping[str, str], body: bytes, rules: AddressRules, net: Net, deadline: Deadline
) -> Answer:
    """Asks for the addresses of the name once, checks all of them and connects to one of those. Neither redirects nor
    proxies are followed: both would lead to an address that was not checked.

    Raises:
        PlaceRefused: an address may not be reached.
        NotReached: there was no answer in time, or none that is HTTP.
    """
    addresses = addresses_of(place, deadline, net.bounds)
    check_addresses(place.host, addresses, rules)
    with ExitStack() as stack:
        backend = _Pinned(addresses[:_ADDRESSES], deadline, net.bounds, stack)
        try:
            return _exchange(place, headers, body, backend, net, deadline)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as exc:
            raise NotReached(_why(exc, deadline)) from exc


def addresses_of(place: Place, deadline: Deadline, bounds: Bounds) -> Sequence[Address]:
    """All that the resolver has for the host, of both kinds.

    Raises:
        NotReached: there are none, or the resolver is silent.
    """
    if place.literal is not None:
        return [place.literal]
    ask = partial(socket.getaddrinfo, place.host, place.port, type=socket.SOCK_STREAM)
    try:
        found = within(deadline.left(bounds.connect_s), ask)
    except TimeoutError:
        raise NotReached(f"the name {place.host} was not resolved in time") from None
    except (OSError, UnicodeError) as exc:
        raise NotReached(f"the name {place.host} has no address") from exc
    return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


def _exchange(
    place: Place, headers: Mapping[str, str], body: bytes, backend: "_Pinned", net: Net, deadline: Deadline
) -> Answer:
    scheme, host, path = place.scheme.encode(), place.host.encode(), place.path.encode()
    url = httpcore2.URL(scheme=scheme, host=host, port=place.port, target=path)
    times = {"connect": net.bounds.connect_s, "read": net.bounds.read_s, "write": net.bounds.read_s}
    tls = net.tls or trusted()
    named = [("host", place.authority), *headers.items()]
    # The name of the URL stays that of SNI and of the certificate.
    connection = httpcore2.HTTPConnection(url.origin, ssl_context=tls, network_backend=backend)
    try:
        with connection.stream("POST", url, headers=named, content=body, extensions={"timeout": times}) as response:
            found = {name.lower(): value for name, value in response.headers}
            retry_after = found.get(b"retry-after")
            answer = Answer(response.status, None if retry_after is None else retry_after.decode("latin-1"))
            _drain(response, deadline)
            return answer
    finally:
        connection.close()


def _drain(response: httpcore2.Response, deadline: Deadline) -> None:
    """The status has said all; what goes wrong with the rest does not matter."""
    until = min(deadline.spent_s + _DRAIN_S, deadline.total_s)
    read = 0
    with suppress(httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
        for piece in response.iter_stream():
            read += len(piece)
            if read >= DRAINED or deadline.spent_s >= until:
                return


def _why(exc: Exception, deadline: Deadline) -> str:
    if deadline.over:
        return f"there was no whole answer within {deadline.total_s:g} s"
    match exc:
        case httpcore2.ConnectTimeout():
            return "no connection came to stand in time"
        case httpcore2.TimeoutException():
            return "the answer did not go on in time"
        case httpcore2.ProtocolError():
            return "the answer was not HTTP, or too long"
        case httpcore2.ConnectError():
            return f"there was no connection: {_printable(str(exc))}"
        case _:
            return "the connection broke off"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:200]


class _Pinned(httpcore2.NetworkBackend):
    """Connects to the addresses that were checked, in their order, whatever the name has by now."""

    def __init__(self, addresses: Sequence[Address], deadline: Deadline, bounds: Bounds, stack: ExitStack) -> None:
        self._addresses, self._deadline, self._bounds, self._stack = addresses, deadline, bounds, stack
        self._real = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        failed: Exception = httpcore2.ConnectError("the name has no address")
        for address in self._addresses:
            try:
                limit = self._deadline.left(self._bounds.connect_s)
                stream = self._real.connect_tcp(str(address), port, limit, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failed = exc
            else:
                self._stack.enter_context(self._deadline.cuts(stream.get_extra_info("socket")))
                return stream
        raise failed
