"""How a message is written for who reads it."""

import json
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final

from orchestrator.webhooks.out.model import Message

SLACK_TEXT: Final = 3_000
SLACK_TITLE: Final = 150
"""Characters that Slack takes in a section, and in a header; an escape counts as several."""
SUBJECT: Final = 150
MAIL_TEXT: Final = 100_000


def as_json(message: Message) -> str:
    """As Standard Webhooks has it: type, time, data."""
    facts = {"type": message.kind, "timestamp": _time(message), "data": message.data}
    return json.dumps(facts, separators=(",", ":"))


def as_slack(message: Message) -> str:
    """A text for the notification, and blocks for the channel; nothing in them is markup."""
    title, facts = _cut(_escaped(_title(message)), SLACK_TITLE), _cut(_escaped("\n".join(_lines(message))), SLACK_TEXT)
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(title)}]
    if facts:
        blocks.append({"type": "section", "text": _plain(facts)})
    blocks.append({"type": "context", "elements": [_plain(_cut(_escaped(_foot(message)), SLACK_TITLE))]})
    return json.dumps({"text": title, "blocks": blocks})


def as_mail(message: Message, sender: str, recipient: str) -> EmailMessage:
    """Plain text. What stands in a header is of one line, so that nobody's data adds another header.

    Raises:
        ValueError: an address cannot stand in a header.
    """
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"] = sender, recipient
    mail["Subject"] = _cut(" ".join(_title(message).split()), SUBJECT)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{_word(message.id)}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's holiday answers it
    mail.set_content(_cut("\n".join([_title(message), "", *_lines(message), "", _foot(message)]), MAIL_TEXT))
    return mail


def _title(message: Message) -> str:
    data = message.data if isinstance(message.data, dict) else {}
    names = [str(data[name]) for name in ("flow", "step", "schedule") if isinstance(data.get(name), str)]
    return ": ".join(_clean(one) for one in [message.kind, "/".join(names)] if one)


def _lines(message: Message) -> list[str]:
    """One fact a line; what is inside a fact as JSON."""
    if not isinstance(message.data, dict):
        return [_clean(_fact(message.data))]
    return [f"{_clean(name)}: {_clean(_fact(value))}" for name, value in message.data.items()]


def _fact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _foot(message: Message) -> str:
    return f"{_time(message)} · {_clean(message.id)}"


def _time(message: Message) -> str:
    return message.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(text: str) -> str:
    return "".join(one for one in text if one.isascii() and (one.isalnum() or one in "._-")) or "message"


def _clean(text: str) -> str:
    """Without what a terminal or a mail program would act on; line breaks stay."""
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)


def _escaped(text: str) -> str:
    """Slack reads <…> as a link or a call of everybody in the channel, and & as the begin of an escape."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def _cut(text: str, most: int) -> str:
    """At most that many characters, and no escape cut in two."""
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    start = kept.rfind("&", max(0, len(kept) - 4))
    return (kept[:start] if start >= 0 and ";" not in kept[start:] else kept) + "…"
