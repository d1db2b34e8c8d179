"""What a process needs to sign and to send, out of its settings."""

from collections.abc import Mapping

from orchestrator.core.subscriptions import SIGNING_KEY_MIN
from orchestrator.engine.subscriptions.deliver import Post
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.errors import SettingsInvalid
from orchestrator.servers.secrets import References
from orchestrator.settings import Settings
from orchestrator.webhooks.out.model import AddressRules, MailServer

_FILE = "file:"


def keyring(settings: Settings, env: Mapping[str, str]) -> Keyring:
    """Reads secrets that are given by reference in `env` and on this host's disk.

    Raises:
        SettingsInvalid: the signing key is short, or its file cannot be read.
    """
    read = References(env)
    given = None if settings.signing_key is None else settings.signing_key.get_secret_value()
    if given is not None and given.startswith(_FILE):
        try:
            given = read(given)
        except LookupError as exc:
            raise SettingsInvalid(f"ORCHESTRATOR_SIGNING_KEY: {exc.args[0]}. Fix: name a file that is there.") from exc
    if given is not None and len(given) < SIGNING_KEY_MIN:
        raise SettingsInvalid(
            f"ORCHESTRATOR_SIGNING_KEY has less than {SIGNING_KEY_MIN} characters. Fix: make one, as by `openssl rand "
            "-hex 32`."
        )
    return Keyring(read, given)


def post(settings: Settings, env: Mapping[str, str]) -> Post:
    """
    Raises:
        SettingsInvalid, UsageError: something in them does not fit.
        ImportError: the extra `webhooks` is not installed.
    """
    from orchestrator.webhooks.out.send import send

    keys = keyring(settings, env)
    rules = AddressRules.of(
        settings.webhook_networks,
        plain_http=settings.webhook_plain_http,
        ports=settings.webhook_ports,
    )
    return Post(send, keys, rules, _mail(settings, keys))


def _mail(settings: Settings, keys: Keyring) -> MailServer | None:
    if settings.smtp_host is None or settings.smtp_sender is None:
        return None
    try:
        password = None if settings.smtp_password is None else keys.read(settings.smtp_password)
    except LookupError as exc:
        raise SettingsInvalid(f"ORCHESTRATOR_SMTP_PASSWORD: {exc.args[0]}. Fix: set what it names.") from exc
    return MailServer(
        settings.smtp_host,
        settings.smtp_sender,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user,
        password,
    )
