"""What is sent arrives as it should, and nothing that the other side does holds a try up or leads it astray."""

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import psutil
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.webhooks.gates import Door, Secrets, judge
from orchestrator.webhooks.out.bounds import Bounds
from orchestrator.webhooks.out.model import AddressRules, Message, Outcome, Target
from orchestrator.webhooks.out.post import Net
from orchestrator.webhooks.out.send import send
from orchestrator.webhooks.request import Request
from tests.support.tls import Papers
from tests.webhooks.listeners import Listener, listening, speaking

NEW, OLD = b"n" * 32, b"o" * 32
NAME: Final = "receiver.test"
OWN: Final = AddressRules.of(["127.0.0.1"], plain_http=True, ports=None)
SHORT: Final = Net(Bounds(connect_s=0.3, read_s=0.3, total_s=0.6))
HELD_UP_S: Final = 10.0
"""Far more than the bounds of `SHORT`, and far less than what the servers here would keep a try for."""
MESSAGE: Final = Message(
    "msg_1", "run.failed", datetime(2026, 5, 4, 10, 30, tzinfo=UTC), {"flow": "orders", "error": "<no> & ümlaut"}
)


@pytest.fixture
def receiver() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.made(tmp_path_factory.mktemp("tls") / "papers")


def to(port: int, path: str = "/", *, host: str = "127.0.0.1", scheme: str = "http", kind: Any = "json") -> Target:
    return Target(kind, f"{scheme}://{host}:{port}{path}", OWN)


class Resolver:
    """Answers for names with the next of `answers`, and for numbers as ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return self._real(host, port, *args, **options)
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [entry for one in answer for entry in self._real(one, port, *args, **options)]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    """The name has these addresses; with several lists, another one at each question."""

    def install(*answers: list[str]) -> Resolver:
        resolver = Resolver(*answers)
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        return resolver

    return install


# ---- what arrives ----------------------------------------------------------------------------------------------


def test_a_message_arrives_signed(receiver: Listener) -> None:
    """By the package of the standard, and by our own gate for it."""
    outcome = send(to(receiver.port, "/in?a=b"), MESSAGE, [NEW])
    assert (outcome.ok, outcome.status, outcome.error, outcome.final) == (True, 200, None, True)
    assert outcome.duration_ms >= 0
    (taken,) = receiver.taken
    assert (taken.path, taken.headers["content-type"]) == ("/in?a=b", "application/json")
    assert taken.headers["host"] == f"127.0.0.1:{receiver.port}"
    body = {"type": "run.failed", "timestamp": "2026-05-04T10:30:00.000Z", "data": MESSAGE.data}
    assert Webhook(NEW).verify(taken.body, taken.headers) == body
    assert judged(taken.body, taken.headers, NEW)
    assert not judged(taken.body + b" ", taken.headers, NEW)


def judged(body: bytes, headers: dict[str, str], secret: bytes) -> bool:
    door = Door.of("in", WebhookTrigger(type="webhook", scheme="standard_webhooks", secret="env:S"))
    text = "whsec_" + base64.b64encode(secret).decode()
    return judge(door, Request.of(body, headers), Secrets(text), datetime.now(UTC)).refusal is None


def test_with_two_secrets_whoever_has_either_takes_it(receiver: Listener) -> None:
    assert send(to(receiver.port), MESSAGE, [NEW, OLD]).ok
    (taken,) = receiver.taken
    assert len(taken.headers["webhook-signature"].split()) == 2
    Webhook(NEW).verify(taken.body, taken.headers)
    Webhook(OLD).verify(taken.body, taken.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another").verify(taken.body, taken.headers)


def test_another_try_has_the_id_of_the_first(receiver: Listener) -> None:
    for _ in range(2):
        assert send(to(receiver.port), MESSAGE, [NEW]).ok
    assert {one.headers["webhook-id"] for one in receiver.taken} == {"msg_1"}


@pytest.mark.parametrize("secrets", [[], [b""], [NEW, b""]])
def test_nothing_is_sent_unsigned(receiver: Listener, secrets: list[bytes]) -> None:
    outcome = send(to(receiver.port), MESSAGE, secrets)
    assert (outcome.ok, outcome.final, receiver.taken) == (False, True, [])


def test_slack_gets_text_and_blocks(receiver: Listener) -> None:
    assert send(to(receiver.port, kind="slack"), MESSAGE, []).ok
    (taken,) = receiver.taken
    body = json.loads(taken.body)
    assert body["text"] == "run.failed: orders"
    assert body["blocks"][1]["text"]["text"] == "flow: orders\nerror: &lt;no&gt; &amp; ümlaut"
    assert "webhook-signature" not in taken.headers


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ok", "final"),
    [
        *[(status, True, True) for status in (200, 202, 204)],
        *[(status, False, False) for status in (400, 404, 408, 429, 500, 503)],
        (410, False, True),
    ],
)
def test_a_status_says_whether_to_come_again(receiver: Listener, status: int, ok: bool, final: bool) -> None:
    receiver.status = status
    outcome = send(to(receiver.port), MESSAGE, [NEW])
    assert (outcome.status, outcome.ok, outcome.final) == (status, ok, final)
    assert (outcome.error is None) == ok


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("999999999", 86_400, 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0, 0),
    ],
)
def test_the_other_side_says_when_to_come_again(receiver: Listener, text: str, least: int, most: int) -> None:
    receiver.status, receiver.answer_headers = 503, {"Retry-After": text}
    wait = send(to(receiver.port), MESSAGE, [NEW]).retry_after
    assert wait is not None
    assert least <= wait.total_seconds() <= most


def test_a_date_to_come_again_is_a_time_from_now(receiver: Listener) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.status, receiver.answer_headers = 503, {"Retry-After": date}
    wait = send(to(receiver.port), MESSAGE, [NEW]).retry_after
    assert wait is not None
    assert timedelta(minutes=50) <= wait <= timedelta(hours=1)


@pytest.mark.parametrize("text", ["soon", "-1", "1.5", "1" * 5000, "Wed, 99 Oct 99999 07:28:00 GMT", "", "²"])
def test_a_time_to_come_again_that_is_none_is_left_out(receiver: Listener, text: str) -> None:
    receiver.status, receiver.answer_headers = 503, {"Retry-After": text}
    outcome = send(to(receiver.port), MESSAGE, [NEW])
    assert (outcome.status, outcome.retry_after) == (503, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver: Listener, status: int) -> None:
    receiver.status, receiver.answer_headers = status, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    outcome = send(to(receiver.port, "/first"), MESSAGE, [NEW])
    assert [one.path for one in receiver.taken] == ["/first"]
    assert (outcome.ok, outcome.final, outcome.status) == (False, False, status)
    assert "redirect" in (outcome.error or "")


# ---- where it goes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[::1]:80/", "http://127.1/", "gopher://a/"])
def test_what_may_not_be_reached_is_refused_for_good(url: str) -> None:
    outcome = send(Target("json", url, OWN), MESSAGE, [NEW])
    assert (outcome.ok, outcome.final, outcome.status) == (False, True, None)
    assert "Fix:" in (outcome.error or "")


def test_loopback_is_refused_without_a_list(receiver: Listener, named: Callable[..., Resolver]) -> None:
    named(["127.0.0.1"])
    for host in ("127.0.0.1", "localhost", NAME):
        rules = AddressRules.of(plain_http=True, ports=None)
        outcome = send(Target("json", f"http://{host}:{receiver.port}/", rules), MESSAGE, [NEW])
        assert (outcome.final, receiver.taken) == (True, [])
        assert "may not reach" in (outcome.error or "")


def test_a_name_that_changes_its_address_is_asked_for_once(receiver: Listener, named: Callable[..., Resolver]) -> None:
    """The address that was checked is the one that is connected to; 127.0.0.2 is on no list."""
    resolver = named(["127.0.0.1"], ["127.0.0.2"])
    assert send(to(receiver.port, host=NAME), MESSAGE, [NEW]).ok
    assert (resolver.asked, len(receiver.taken)) == (1, 1)
    assert receiver.taken[0].headers["host"] == f"{NAME}:{receiver.port}"
    outcome = send(to(receiver.port, host=NAME), MESSAGE, [NEW])
    assert (resolver.asked, outcome.final, len(receiver.taken)) == (2, True, 1)


@pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["::1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"]])
def test_one_private_address_of_a_name_spoils_the_others(
    receiver: Listener, named: Callable[..., Resolver], addresses: list[str]
) -> None:
    named(addresses)
    outcome = send(to(receiver.port, host=NAME), MESSAGE, [NEW])
    assert (outcome.final, receiver.taken) == (True, [])


def test_a_second_address_is_tried_when_the_first_is_dead(named: Callable[..., Resolver]) -> None:
    rules = AddressRules.of(["127.0.0.0/8"], plain_http=True, ports=None)
    with listening() as receiver:
        named(["127.9.9.9", "127.0.0.1"])
        assert send(Target("json", f"http://{NAME}:{receiver.port}/", rules), MESSAGE, [NEW]).ok


def test_an_address_of_ipv6_is_reached_and_named_as_http_has_it() -> None:
    rules = AddressRules.of(["::1"], plain_http=True, ports=None)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no loopback of IPv6 here")
    with listening(host="::1") as receiver:
        assert send(Target("json", f"http://[::1]:{receiver.port}/", rules), MESSAGE, [NEW]).ok
        assert receiver.taken[0].headers["host"] == f"[::1]:{receiver.port}"


def test_proxies_of_the_environment_are_not_asked(receiver: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name itself, unchecked."""
    with listening() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send(to(receiver.port), MESSAGE, [NEW]).ok
        assert (len(receiver.taken), proxy.taken) == (1, [])


# ---- TLS -------------------------------------------------------------------------------------------------------


def believing(papers: Papers) -> Net:
    return Net(tls=ssl.create_default_context(cafile=papers.ca))


def test_tls_asks_for_the_name_and_checks_it(papers: Papers, named: Callable[..., Resolver]) -> None:
    named(["127.0.0.1"])
    context, asked = papers.server_context(NAME, ask_client=False), []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)  # type: ignore[func-returns-value]
    with listening(context) as receiver:
        assert send(to(receiver.port, host=NAME, scheme="https"), MESSAGE, [NEW], net=believing(papers)).ok
    assert asked == [NAME]


def test_a_certificate_for_another_name_is_refused(papers: Papers, named: Callable[..., Resolver]) -> None:
    named(["127.0.0.1"])
    with listening(papers.server_context("another.test", ask_client=False)) as receiver:
        outcome = send(to(receiver.port, host=NAME, scheme="https"), MESSAGE, [NEW], net=believing(papers))
        assert (outcome.ok, outcome.final, outcome.status, receiver.taken) == (False, False, None, [])
        assert "certificate" in (outcome.error or "")


def test_a_certificate_of_a_stranger_is_refused(papers: Papers, named: Callable[..., Resolver]) -> None:
    named(["127.0.0.1"])
    with listening(papers.server_context(NAME, ask_client=False)) as receiver:
        outcome = send(to(receiver.port, host=NAME, scheme="https"), MESSAGE, [NEW])
        assert (outcome.ok, receiver.taken) == (False, [])
        assert "certificate" in (outcome.error or "")


# ---- bounds ----------------------------------------------------------------------------------------------------


def drip(text: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        for place in range(10_000):
            connection.sendall(text[place % len(text) :][:1])
            time.sleep(0.02)  # the server's pace, not a wait of the test

    return talk


def endless(begin: bytes, again: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(again)

    return talk


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


HOSTILE: Final = {
    "silent": (silent, "http"),
    "silent before TLS": (silent, "https"),
    "dripping TLS": (drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 100), "https"),
    "dripping head": (drip(b"HTTP/1.1 200 OK\r\nx: y" + b"z" * 10_000), "http"),
    "endless head": (endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000), "http"),
    "endless line": (endless(b"HTTP/1.1 200 ", b"x" * 10_000), "http"),
    "endless hints": (endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100), "http"),
    "no HTTP": (endless(b"", b"220 smtp ready\r\n"), "http"),
    "gone at once": (lambda connection: None, "http"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_holds_a_try_up(name: str) -> None:
    talk, scheme = HOSTILE[name]
    with speaking(talk) as port:
        outcome, spent = timed(to(port, scheme=scheme))
    assert (outcome.ok, outcome.final, outcome.status) == (False, False, None)
    assert outcome.error
    assert spent < HELD_UP_S


@pytest.mark.parametrize(
    "talk",
    [
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        endless(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99999999999\r\n\r\n", b"x" * 65536),
        drip(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000),
    ],
    ids=["endless", "of a long length", "dripping"],
)
def test_an_answers_body_is_not_waited_for(talk: Callable[[socket.socket], None]) -> None:
    """The status has been told by then."""
    with speaking(talk) as port:
        outcome, spent = timed(to(port), Net(Bounds(connect_s=10, read_s=10, total_s=60)))
    assert (outcome.ok, outcome.status) == (True, 200)
    assert spent < HELD_UP_S


def test_a_server_that_reads_nothing_holds_nothing_up() -> None:
    stop = threading.Event()
    big = Message("m", "k", MESSAGE.at, "x" * 20_000_000)
    with speaking(lambda connection: bool(stop.wait(60)) and None) as port:
        began = time.monotonic()
        outcome = send(to(port), big, [NEW], net=SHORT)
        spent = time.monotonic() - began
        stop.set()
    assert not outcome.ok
    assert spent < HELD_UP_S


def test_a_resolver_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: answers.wait(60) and [])
    outcome, spent = timed(to(80, host=NAME))
    answers.set()
    assert "not resolved in time" in (outcome.error or "")
    assert spent < HELD_UP_S


def test_a_name_without_an_address_may_have_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    outcome = send(to(80, host=NAME), MESSAGE, [NEW])
    assert (outcome.ok, outcome.final) == (False, False)
    assert "no address" in (outcome.error or "")


def test_nobody_who_listens_is_an_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = send(to(port), MESSAGE, [NEW])
    assert (outcome.ok, outcome.final) == (False, False)
    assert "no connection" in (outcome.error or "")


def test_no_thread_and_no_connection_is_left(receiver: Listener) -> None:
    """Whether it went well or not."""
    before = timers()
    for target in (to(receiver.port), to(receiver.port, scheme="https")):
        for _ in range(3):
            send(target, MESSAGE, [NEW])
    # Without a process: a connection that is closed, and that only the kernel still knows.
    open_ones = [one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr[1] == receiver.port]
    assert (open_ones, timers()) == ([], before)


def timers() -> int:
    return sum(isinstance(one, threading.Timer) for one in threading.enumerate())


def timed(target: Target, net: Net = SHORT) -> tuple[Outcome, float]:
    began = time.monotonic()
    outcome = send(target, MESSAGE, [NEW], net=net)
    return outcome, time.monotonic() - began
