"""Messages as Slack and mail take them."""

import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.webhooks.out.formats import MAIL_TEXT, SLACK_TEXT, SLACK_TITLE, SUBJECT, as_json, as_mail, as_slack
from orchestrator.webhooks.out.model import Message

AT = datetime(2026, 5, 4, 10, 30, 0, 123456, UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=10,
)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
messages = st.builds(Message, words, words, st.just(AT), json_values)


def test_a_channel_is_not_called_by_somebodys_data() -> None:
    data = {"flow": "<!channel> *a* <https://evil.example|click>", "error": "&lt;!here&gt;"}
    found = json.loads(as_slack(Message("m", "run.failed", AT, data)))
    assert "<" not in json.dumps(found)
    assert found["text"] == "run.failed: &lt;!channel&gt; *a* &lt;https://evil.example|click&gt;"
    assert {block["text"]["type"] for block in found["blocks"] if "text" in block} == {"plain_text"}


@given(messages)
def test_slack_takes_every_message(message: Message) -> None:
    found = json.loads(as_slack(message))
    parts = [one for block in found["blocks"] for one in [block.get("text"), *block.get("elements", ())] if one]
    assert all(0 < len(part["text"]) <= SLACK_TEXT for part in parts)
    assert 0 < len(found["blocks"][0]["text"]["text"]) <= SLACK_TITLE
    assert 0 < len(found["text"]) <= SLACK_TEXT
    for part in parts:
        # No escape is cut in two: what is left of & after all of them are read back stood in the text itself.
        assert "&" not in part["text"].replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
        assert "<" not in part["text"]


def test_what_is_long_is_cut_between_escapes() -> None:
    for length in range(2990, 3010):
        found = json.loads(as_slack(Message("m", "k", AT, {"e": "x" * length + "<" * 20})))
        text = found["blocks"][1]["text"]["text"]
        assert len(text) <= SLACK_TEXT
        assert text.endswith(("…", "&lt;"))
        assert unescape(text).removeprefix("e: ").strip("x<…") == ""


@given(messages)
def test_every_message_is_one_mail(message: Message) -> None:
    mail = as_mail(message, "flows@example.com", "ann@example.com")
    written = mail.as_bytes()
    read = message_from_bytes(written, policy=default)
    assert (read["From"], read["To"], len(read.keys())) == ("flows@example.com", "ann@example.com", 9)
    assert len(str(read["Subject"])) <= SUBJECT
    assert len(written) < 10 * MAIL_TEXT


@given(messages)
def test_json_says_what_standard_webhooks_wants(message: Message) -> None:
    text = as_json(message)
    assert json.loads(text) == {"type": message.kind, "timestamp": "2026-05-04T10:30:00.123Z", "data": message.data}
    assert text.isascii()
