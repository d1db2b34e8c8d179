"""One e-mail to the mail server of the settings."""

import re
import smtplib
import socket
import ssl
from contextlib import ExitStack, suppress
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.webhooks.out.bounds import Bounds, Deadline
from orchestrator.webhooks.out.formats import as_mail
from orchestrator.webhooks.out.model import MailServer, Message

_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


class MailRefused(Exception):
    """The server answered no; `status` is SMTP's, 4xx for now, 5xx for good. None: no answer came."""

    def __init__(self, status: int | None, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def check_recipient(address: str) -> None:
    """
    Raises:
        UsageError: it is not one plain e-mail address.
    """
    if len(address) > 254 or not _ADDRESS.fullmatch(address):
        raise UsageError("This is not one plain e-mail address. Fix: write it as ann@example.com.")


def mail(
    server: MailServer, recipient: str, message: Message, bounds: Bounds, deadline: Deadline, tls: ssl.SSLContext
) -> int:
    """Hand it to the server, and the status with which it was taken.

    Raises:
        MailRefused: it was not taken.
        UsageError: an address is malformed.
    """
    check_recipient(recipient)
    written = as_mail(message, server.sender, recipient).as_bytes()
    try:
        with ExitStack() as stack:
            smtp = _Connection(server, bounds, deadline, tls, stack)
            return _hand_over(smtp, server, recipient, written, tls)
    except smtplib.SMTPException as exc:
        raise _refused(exc, deadline) from exc
    except OSError as exc:
        raise MailRefused(None, _late(deadline) or "there was no connection to the mail server") from exc


class _Connection(smtplib.SMTP):
    """Ended at the deadline, from its first byte on."""

    def __init__(
        self, server: MailServer, bounds: Bounds, deadline: Deadline, tls: ssl.SSLContext, stack: ExitStack
    ) -> None:
        self._own = (server, bounds, deadline, tls, stack)
        stack.callback(self.close)
        # What it calls itself: smtplib would ask the resolver, without a time limit.
        own_name = server.sender.rpartition("@")[2]
        super().__init__(server.host, server.port, own_name, deadline.left(bounds.connect_s))

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        server, bounds, deadline, tls, stack = self._own
        connection = socket.create_connection((host, port), timeout)
        stack.callback(connection.close)
        stack.enter_context(deadline.cuts(connection))
        connection.settimeout(deadline.left(bounds.read_s))
        return tls.wrap_socket(connection, server_hostname=host) if server.security == "tls" else connection


def _hand_over(smtp: smtplib.SMTP, server: MailServer, recipient: str, written: bytes, tls: ssl.SSLContext) -> int:
    if server.security == "starttls":
        smtp.starttls(context=tls)  # raises where the server has none: nothing is sent in the open instead
    if server.user is not None:
        try:
            smtp.login(server.user, server.password or "")
        except UnicodeError:
            raise UsageError("The login of the mail server is not ASCII, which SMTP cannot send.") from None
    smtp.sendmail(server.sender, [recipient], written)
    with suppress(smtplib.SMTPException, OSError):  # it has been taken, whatever comes now
        smtp.quit()
    return 250


def _refused(exc: smtplib.SMTPException, deadline: Deadline) -> MailRefused:
    if late := _late(deadline):
        return MailRefused(None, late)
    match exc:
        case smtplib.SMTPRecipientsRefused():
            status = next(iter(exc.recipients.values()))[0]
            return MailRefused(status, f"the mail server answered {status} to the recipient")
        case smtplib.SMTPAuthenticationError():
            return MailRefused(exc.smtp_code, f"the mail server answered {exc.smtp_code} to the login")
        case smtplib.SMTPResponseException() if exc.smtp_code >= 400:
            return MailRefused(exc.smtp_code, f"the mail server answered {exc.smtp_code}")
        case smtplib.SMTPNotSupportedError():
            return MailRefused(None, "the mail server has no STARTTLS, or takes no login")
        case _:
            return MailRefused(None, "the mail server broke the connection off")


def _late(deadline: Deadline) -> str | None:
    return f"the mail server was not done within {deadline.total_s:g} s" if deadline.over else None
