"""What a process needs to sign and to send is what its settings say."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.delivery import outbound
from orchestrator.errors import SettingsInvalid, UsageError
from orchestrator.settings import Settings
from orchestrator.webhooks.out.model import AddressRules, MailServer

KEY = "k" * 40


def settings(**changes: Any) -> Settings:
    return Settings(**{"signing_key": KEY, **changes})


def test_it_has_rules_and_a_mail_server() -> None:
    mail = {"smtp_host": "mail", "smtp_sender": "flows@example.com", "smtp_user": "x", "smtp_password": "env:MAIL"}
    made = outbound.post(settings(webhook_networks=("10.1.0.0/16",), webhook_ports=("443",), **mail), {"MAIL": "pw"})
    assert made.rules == AddressRules.of(["10.1.0.0/16"], ports=[443])
    assert made.mail == MailServer("mail", "flows@example.com", user="x", password="pw")
    assert "pw" not in repr(made)
    assert KEY not in repr(made)
    assert outbound.post(settings(), {}).mail is None


def test_a_password_that_is_not_there_is_told() -> None:
    mail = {"smtp_host": "mail", "smtp_sender": "flows@example.com", "smtp_user": "x", "smtp_password": "env:MAIL"}
    with pytest.raises(SettingsInvalid, match="MAIL is not set"):
        outbound.post(settings(**mail), {})


def test_the_signing_key_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    assert outbound.keyring(settings(signing_key=f"file:{file}"), {}).signing_key == KEY
    file.write_text("short")
    for wrong, said in ((f"file:{file}", "less than 32"), (f"file:{tmp_path}/none", "cannot be read"), ("x", "less")):
        with pytest.raises(SettingsInvalid, match=said):
            outbound.keyring(settings(signing_key=wrong), {})


def test_where_nothing_may_be_sent_is_refused_at_once() -> None:
    for address in ("http://hooks.example.com/", "https://hooks.example.com:22/", "https://10.0.0.1/"):
        with pytest.raises(UsageError, match="Fix: "):
            outbound.check(settings(), "json", address)
    outbound.check(settings(), "json", "https://hooks.example.com/")
    outbound.check(settings(), "slack", "env:SLACK_URL")
    outbound.check(settings(), "email", "ann@example.com")
