"""The small server for probes: it answers beside whatever the process does, and stays within its bounds."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from orchestrator.core.listen_address import ListenAddress
from orchestrator.errors import UsageError
from orchestrator.observe.listener import Answer, Headers, Listener
from tests.support.forked import staying_child


def _hello(headers: Headers) -> Answer:
    return Answer.json(200, {"hello": headers.get("X-NAME", "nobody")})


def _broken(headers: Headers) -> Answer:
    raise RuntimeError("no")


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener(ListenAddress("127.0.0.1", 0), {"/hello": _hello, "/broken": _broken})
    with closing(made.start()):
        yield made


def ask(port: int, method: str = "GET", path: str = "/hello", host: str = "127.0.0.1") -> tuple[int, str, str | None]:
    """Status, body and type."""
    with closing(HTTPConnection(host, port, timeout=10)) as connection:
        connection.request(method, path, headers={"x-name": "kubelet"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Content-Type")


def test_routes_answer_by_path_whatever_the_query(listener: Listener) -> None:
    expected = (200, '{"hello": "kubelet"}\n', "application/json")
    assert ask(listener.port) == ask(listener.port, path="/hello?at=1") == expected
    assert ask(listener.port, "HEAD") == (200, "", "application/json")


def test_what_is_not_served_says_what_is(listener: Listener) -> None:
    status, text, _ = ask(listener.port, path="/")
    assert (status, text) == (404, "Nothing is here. Served are /broken, /hello.\n")
    assert ask(listener.port, "POST")[:2] == (405, "Only GET and HEAD are served here.\n")


def test_a_broken_route_breaks_only_itself(listener: Listener) -> None:
    assert ask(listener.port, path="/broken")[:2] == (500, "The answer could not be made; the log says why.\n")
    assert ask(listener.port)[0] == 200


def test_what_is_no_request_is_refused(listener: Listener) -> None:
    with closing(socket.create_connection(("127.0.0.1", listener.port), 10)) as client:
        client.sendall(b"hello there you two\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_silent_clients_give_way_to_new_ones(listener: Listener) -> None:
    """Else whoever opens connections and says nothing would have the process restarted."""
    with ExitStack() as stack:
        silent = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", listener.port), 10))) for _ in range(100)
        ]
        assert ask(listener.port)[0] == 200
        assert silent[0].recv(1) == b""  # closed to make room


def test_a_closed_listener_frees_the_port(listener: Listener) -> None:
    port = listener.port
    listener.close()
    with closing(Listener(ListenAddress("127.0.0.1", port), {"/hello": _hello}).start()):
        assert ask(port)[0] == 200


def test_a_forked_child_does_not_keep_the_port() -> None:
    """A pool child, or what a step started, may outlive the worker that is to be started again."""
    first = Listener(ListenAddress("127.0.0.1", 0), {"/hello": _hello}).start()
    port = first.port
    with staying_child():
        first.close()
        with closing(Listener(ListenAddress("127.0.0.1", port), {"/hello": _hello}).start()):
            assert ask(port)[0] == 200


def test_an_empty_host_is_every_address_of_both_families() -> None:
    with closing(Listener(ListenAddress.read(":0"), {"/hello": _hello}).start()) as made:
        assert ask(made.port)[0] == 200
        if socket.has_dualstack_ipv6():
            assert ask(made.port, host="::1")[0] == 200


def test_a_busy_port_is_one_clear_error(listener: Listener) -> None:
    port = listener.port
    with pytest.raises(UsageError) as caught:
        Listener(ListenAddress("127.0.0.1", port), {}, what="metrics").start()
    assert caught.value.message == (
        f"Metrics cannot be served at 127.0.0.1:{port}: another program listens on port {port}. "
        f"Fix: choose another port, or end that program (`ss -ltnp 'sport = :{port}'` names it)."
    )


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.1:0", "192.0.2.1 is not an address of this machine. Fix: write :0"),
        ("no.such.machine.invalid:8081", "no machine is called 'no.such.machine.invalid'. Fix: write :8081"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_clear_error(address: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Listener(ListenAddress.read(address), {}).start()
    assert reason in caught.value.message


@pytest.mark.parametrize("text", [":8081", "127.0.0.1:8081", "[::1]:8081", "worker-3.internal:0"])
def test_addresses_are_read_as_they_are_written(text: str) -> None:
    assert str(ListenAddress.read(text)) == text


@pytest.mark.parametrize("text", ["8081", "", "::1:8081", "localhost", "http://localhost:8081", "127.0.0.1:http"])
def test_what_is_no_address_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is not an address with a port\. Fix: write :8081 for every"):
        ListenAddress.read(text)


def test_a_port_ends_at_65535() -> None:
    with pytest.raises(ValueError, match="65536 is not a port"):
        ListenAddress.read(":65536")
