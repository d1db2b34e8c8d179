"""One message to one target, once."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from standardwebhooks import Webhook

from orchestrator.errors import UsageError
from orchestrator.webhooks.out.bounds import Deadline
from orchestrator.webhooks.out.formats import as_json, as_slack
from orchestrator.webhooks.out.mail import MailRefused, mail
from orchestrator.webhooks.out.model import Message, Outcome, Target
from orchestrator.webhooks.out.places import read_place
from orchestrator.webhooks.out.post import Answer, Net, NotReached, post, trusted

NET: Final = Net()
_LONGEST_WAIT: Final = timedelta(days=1)
_GONE: Final = 410


def send(target: Target, message: Message, secrets: Sequence[bytes], *, net: Net = NET) -> Outcome:
    """Send it, and say what came of it; nothing is raised for what the other side does.

    JSON is signed as Standard Webhooks has it, once with each of `secrets`, so that a receiver may have the old one or
    the new one. Slack and e-mail are not signed. Takes at most `net.bounds.total_s`, and may be called again for the
    same message: its id tells.
    """
    deadline = Deadline(net.bounds.total_s)
    if target.kind == "email":
        return _mailed(target, message, net, deadline)
    if target.kind == "json" and not (secrets and all(secrets)):
        return _failed(deadline, "there is no secret to sign with", final=True)
    body = as_json(message) if target.kind == "json" else as_slack(message)
    headers = {"content-type": "application/json", "user-agent": "flow-orchestrator", "connection": "close"}
    if target.kind == "json":
        headers |= signed(message.id, body, secrets, datetime.now(UTC))
    try:
        place = read_place(target.address, target.rules)
        return _answered(post(place, headers, body.encode(), target.rules, net, deadline), deadline)
    except UsageError as exc:
        return _failed(deadline, exc.message, final=True)
    except NotReached as exc:
        return _failed(deadline, str(exc))


def signed(id: str, body: str, secrets: Sequence[bytes], now: datetime) -> Mapping[str, str]:
    """The headers of Standard Webhooks, with one signature for each secret. `now` is UTC: the time of this try."""
    signatures = " ".join(Webhook(secret).sign(id, now, body) for secret in secrets)
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signatures}


def _answered(answer: Answer, deadline: Deadline) -> Outcome:
    status, ok = answer.status, 200 <= answer.status < 300
    error = None if ok else f"the answer was {status}"
    if 300 <= status < 400:
        error = f"the answer was {status}, a redirect, and webhooks follow none. Fix: use the URL it leads to."
    retry_after = None if ok else _wait(answer.retry_after)
    return Outcome(status, error, retry_after, _ms(deadline), ok, final=ok or status == _GONE)


def _wait(text: str | None) -> timedelta | None:
    """Seconds or a date, within a day."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        wait = timedelta(seconds=int(text))
    else:
        try:
            then = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        wait = then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)


def _mailed(target: Target, message: Message, net: Net, deadline: Deadline) -> Outcome:
    if target.mail is None:
        return _failed(deadline, "there is no mail server. Fix: set ORCHESTRATOR_SMTP_HOST.", final=True)
    try:
        status = mail(target.mail, target.address, message, net.bounds, deadline, net.tls or trusted())
    except UsageError as exc:
        return _failed(deadline, exc.message, final=True)
    except MailRefused as exc:
        return Outcome(exc.status, exc.why, None, _ms(deadline), ok=False, final=(exc.status or 0) >= 500)
    return Outcome(status, None, None, _ms(deadline), ok=True, final=True)


def _failed(deadline: Deadline, why: str, *, final: bool = False) -> Outcome:
    return Outcome(None, why, None, _ms(deadline), ok=False, final=final)


def _ms(deadline: Deadline) -> int:
    return int(deadline.spent_s * 1000)
