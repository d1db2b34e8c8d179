"""What a process needs to sign and to send, out of its settings."""

from collections.abc import Mapping

from orchestrator.core.subscriptions import SIGNING_KEY_MIN, Kind, is_reference
from orchestrator.engine.subscriptions.deliver import Post
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.errors import SettingsInvalid, UsageError
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


def check(settings: Settings, kind: Kind, address: str) -> None:
    """Whether anything may be sent there, as far as can be told without asking for the addresses of its name; of a
    reference that is told when it is sent.

    Raises:
        UsageError: it may not; or the extra `webhooks` is not installed.
    """
    if kind == "email" or is_reference(address):
        return
    try:
        from orchestrator.webhooks.out.places import read_place
    except ModuleNotFoundError as exc:
        fix = "pip install 'flow-orchestrator[webhooks]'"
        raise UsageError(f"The packages for webhooks are not installed. Fix: {fix}.") from exc
    read_place(address, _rules(settings))


def post(settings: Settings, env: Mapping[str, str]) -> Post:
    """
    Raises:
        SettingsInvalid, UsageError: something in them does not fit.
        ImportError: the extra `webhooks` is not installed.
    """
    from orchestrator.webhooks.out.send import send

    keys = keyring(settings, env)
    return Post(send, keys, _rules(settings), _mail(settings, keys))


def _rules(settings: Settings) -> AddressRules:
    return AddressRules.of(
        settings.webhook_networks, plain_http=settings.webhook_plain_http, ports=settings.webhook_ports
    )


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
