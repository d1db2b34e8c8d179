"""E-mail, handed to a real SMTP server."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from orchestrator.webhooks.out.bounds import Bounds
from orchestrator.webhooks.out.model import MailServer, Message, Outcome, Target
from orchestrator.webhooks.out.post import Net
from orchestrator.webhooks.out.send import send
from tests.support.tls import Papers
from tests.webhooks.listeners import speaking

HOST: Final = "127.0.0.1"
MESSAGE: Final = Message(
    "msg_1", "run.failed", datetime(2026, 5, 4, 10, 30, tzinfo=UTC), {"flow": "orders", "error": "größer"}
)


class Box:
    """Takes mail; `answers` are given instead of taking it, by the word that asks."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.answers: dict[str, str] = {}
        self.secured: list[bool] = []

    async def handle_MAIL(self, _server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        self.secured.append(session.ssl is not None)
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, options: Any) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        if "DATA" not in self.answers:
            self.taken.append(envelope)
        return self.answers.get("DATA", "250 OK")

    def mail(self) -> EmailMessage:
        (envelope,) = self.taken
        assert isinstance(envelope.content, bytes)
        found = message_from_bytes(envelope.content, policy=default)
        assert isinstance(found, EmailMessage)
        return found


@contextmanager
def serving(**options: Any) -> Iterator[tuple[Box, MailServer]]:
    """A mail server on a free port."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    box = Box()
    controller = Controller(box, HOST, port, **options)
    controller.start()
    try:
        yield box, MailServer(HOST, "flows@example.com", port, "none")
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.made(tmp_path_factory.mktemp("tls") / "papers")


def mailed(server: MailServer | None, message: Message = MESSAGE, to: str = "ann@example.com", **net: Any) -> Outcome:
    return send(Target("email", to, mail=server), message, [], net=Net(**net))


def test_a_message_arrives_as_plain_text() -> None:
    with serving() as (box, server):
        outcome = mailed(server)
        assert (outcome.ok, outcome.status, outcome.error, outcome.final) == (True, 250, None, True)
        mail = box.mail()
        assert (box.taken[0].mail_from, box.taken[0].rcpt_tos) == ("flows@example.com", ["ann@example.com"])
    assert (mail["From"], mail["To"], mail["Subject"]) == ("flows@example.com", "ann@example.com", "run.failed: orders")
    assert mail["Message-ID"] == "<msg_1@example.com>"
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == [
        "run.failed: orders",
        "",
        "flow: orders",
        "error: größer",
        "",
        "2026-05-04T10:30:00.000Z · msg_1",
    ]


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", "\u2028", "\x0b", "\x85"])
def test_nobodys_data_becomes_a_header_or_ends_the_mail(ending: str) -> None:
    evil = f"x{ending}Bcc: eve@example.com{ending}{ending}.{ending}MAIL FROM:<eve@example.com>{ending}"
    message = Message(f"id{ending}Bcc: eve@example.com", f"kind{evil}", MESSAGE.at, {"flow": evil, evil: [evil]})
    with serving() as (box, server):
        assert mailed(server, message).ok
        mail = box.mail()
        assert box.taken[0].rcpt_tos == ["ann@example.com"]
    names = "Auto-Submitted Content-Transfer-Encoding Content-Type Date From MIME-Version Message-ID Subject To"
    assert " ".join(sorted(mail.keys())) == names


@pytest.mark.parametrize(
    "address",
    [
        *[
            "",
            "ann",
            "ann@",
            "@example.com",
            "ann@example.com\r\nBcc: eve@example.com",
            "ann@example.com\n",
            "ann@a..b",
        ],
        *["Ann <ann@example.com>", "ann@a.example, eve@b.example", "ann@exa mple.com", "ä@b.c", f"{'a' * 65}@b.c"],
    ],
)
def test_what_is_not_one_plain_address_is_refused_for_good(address: str) -> None:
    with serving() as (box, server):
        outcome = mailed(server, to=address)
        assert (outcome.ok, outcome.final, box.taken) == (False, True, [])


@pytest.mark.parametrize("word", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("answer", "final"), [("451 Later", False), ("550 Never", True)])
def test_an_answer_says_whether_to_come_again(word: str, answer: str, final: bool) -> None:
    with serving() as (box, server):
        box.answers[word] = answer
        outcome = mailed(server)
    assert (outcome.ok, outcome.status, outcome.final) == (False, int(answer[:3]), final)
    assert answer[:3] in (outcome.error or "")


def test_starttls_is_not_gone_without(papers: Papers) -> None:
    """A server, or somebody in between, that offers none gets nothing."""
    with serving() as (box, server):
        outcome = mailed(replace(server, security="starttls"))
        assert (outcome.ok, outcome.final, box.secured) == (False, False, [])
        assert "STARTTLS" in (outcome.error or "")


def believing(papers: Papers) -> dict[str, Any]:
    return {"tls": ssl.create_default_context(cafile=papers.ca)}


def login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"flows", b"secret word"), handled=False)


def test_starttls_and_a_login(papers: Papers) -> None:
    context = papers.server_context(HOST, ask_client=False)
    with serving(tls_context=context, require_starttls=True, authenticator=login, auth_required=True) as (box, plain):
        server = replace(plain, security="starttls", user="flows", password="secret word")
        assert mailed(server, **believing(papers)).ok
        assert box.secured == [True]
        stranger = mailed(server)
        assert (stranger.ok, box.secured) == (False, [True])
        wrong = mailed(replace(server, password="wrong word"), **believing(papers))
        assert (wrong.ok, wrong.status, wrong.final) == (False, 535, True)
        assert "word" not in (wrong.error or "")
        foreign = mailed(replace(server, password="wörd"), **believing(papers))
        assert (foreign.ok, foreign.final) == (False, True)
        assert "ASCII" in (foreign.error or "")


def test_tls_from_the_start(papers: Papers) -> None:
    with serving(ssl_context=papers.server_context(HOST, ask_client=False)) as (box, plain):
        server = replace(plain, security="tls")
        assert mailed(server, **believing(papers)).ok
        assert not mailed(server).ok
        assert len(box.taken) == 1


def test_the_password_is_not_shown() -> None:
    assert "secret word" not in repr(MailServer(HOST, "a@b.c", user="flows", password="secret word"))


def test_without_a_mail_server_it_says_so() -> None:
    outcome = mailed(None)
    assert (outcome.ok, outcome.final) == (False, True)
    assert "ORCHESTRATOR_SMTP_HOST" in (outcome.error or "")


def test_nobody_who_listens_is_an_outcome() -> None:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    outcome = mailed(MailServer(HOST, "flows@example.com", port, "none"))
    assert (outcome.ok, outcome.final, outcome.status) == (False, False, None)


def dripping(connection: socket.socket) -> None:
    for _ in range(10_000):
        connection.sendall(b"2")
        time.sleep(0.02)  # the server's pace, not a wait of the test


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"220-hello\r\n" * 100)


def silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("talk", [dripping, endless, silent, lambda _connection: None])
@pytest.mark.parametrize("security", ["none", "tls"])
def test_nothing_holds_a_try_up(talk: Any, security: Any) -> None:
    with speaking(talk) as port:
        began = time.monotonic()
        server = MailServer(HOST, "flows@example.com", port, security)
        outcome = mailed(server, bounds=Bounds(connect_s=0.3, read_s=0.3, total_s=0.6))
        spent = time.monotonic() - began
    assert (outcome.ok, outcome.final, outcome.status) == (False, False, None)
    assert spent < 10
