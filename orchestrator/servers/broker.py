"""How Redis or Valkey is reached, written once for workers, publishers, Flower, `doctor` and `dev`."""

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from orchestrator.errors import SettingsInvalid, Unavailable
from orchestrator.servers.diagnosis import broker_fix, broker_refuses, one_line
from orchestrator.settings import Settings, variable
from orchestrator.settings.urls import mask_url

PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""One Redis list each; 0 is taken first."""

# Any of these silently turns off publishing in batches: one round trip for each message of a fan-out.
_SPOIL_BATCHES: Final = ("retry_on_timeout", "retry", "retry_on_error")
_OURS: Final = ("ack_emulation", "global_keyprefix", "priority_steps")
_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SOCKET_TIMEOUT_S: Final = 15.0
"""How long a Redis may say nothing, unless `broker_transport_options` give a `socket_timeout`."""
_CHECK_TIMEOUT_S: Final = 5
_TRIES: Final = 1

log = logging.getLogger(__name__)


def transport_options(settings: Settings) -> dict[str, Any]:
    """How kombu talks to Redis. The user's options win, except where the ledger depends on ours."""
    given = dict(settings.broker_transport_options)
    for name in (*_SPOIL_BATCHES, *_OURS):
        if given.pop(name, None) is not None:
            log.warning("settings.ignored", extra={"option": name, "reason": "set by the orchestrator"})
    if "master_name" in given:
        given["sentinel_kwargs"] = {**sentinel_timeouts(), **(given.get("sentinel_kwargs") or {})}
    return {
        "socket_keepalive": True,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        # How often a publisher tries to connect before it leaves the message to a keeper. Consumers try for ever.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        # Redelivers a message that runs longer than this; only used with acknowledgements emulated.
        **({"visibility_timeout": 86_400} if settings.ack_emulation else {}),
        **given,
        "ack_emulation": settings.ack_emulation,
        "global_keyprefix": settings.key_prefix,
        "priority_steps": list(PRIORITY_STEPS),
    }


def sentinel_timeouts() -> dict[str, Any]:
    """Each connection asks the Sentinels in turn: without these, one that is dead costs each of them seconds."""
    return {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": None}


def ssl_options(settings: Settings) -> dict[str, Any] | None:
    """None: no TLS. Otherwise the server's certificate is checked, and its name, unless the settings say no."""
    return tls(settings, settings.require_broker_url())


def tls(settings: Settings, url: str) -> dict[str, Any] | None:
    """The same for another server that is reached like the broker."""
    given = settings.broker_use_ssl
    if given is False:
        # Without any options kombu would take every certificate for a rediss:// URL.
        return _checked({}) if url.startswith("rediss:") else None
    return _checked({} if given is True else given)


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    name = str(given.get("ssl_cert_reqs", "required"))
    reqs = _CERT_REQS.get(name.removeprefix("CERT_").lower())
    if reqs is None:
        raise SettingsInvalid(
            f"{variable('broker_use_ssl')} says ssl_cert_reqs {name!r}. Fix: write required, optional or none."
        )
    return {"ssl_check_hostname": reqs is not ssl.CERT_NONE, **given, "ssl_cert_reqs": reqs}


def check_files(settings: Settings) -> None:
    """Raise SettingsInvalid when a file that the TLS options name cannot be read; the client does not say which."""
    named: dict[str, Mapping[str, Any]] = {
        "broker_url": dict(parse_qsl(urlsplit(settings.require_broker_url()).query)),
        "broker_use_ssl": ssl_options(settings) or {},
        "broker_transport_options": settings.broker_transport_options.get("sentinel_kwargs") or {},
    }
    readable(named)


def readable(named: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsInvalid when a file in these options, by field of the settings, cannot be read."""
    for field, given in named.items():
        for name in _FILES:
            if name not in given:
                continue
            try:
                Path(str(given[name])).open("rb").close()
            except OSError as exc:
                raise SettingsInvalid(
                    f"{variable(field)} names {given[name]!r} as {name}, and it cannot be read ({exc.strerror}). "
                    "Fix: correct the path, or let this user read the file."
                ) from None


def connect(settings: Settings) -> Any:
    """A kombu connection whose server answered just now. The caller releases it.

    Raises:
        SettingsInvalid: a file of the TLS options cannot be read.
        Unavailable: it does not answer; `refused` says that waiting will not help, `fix` what will.
    """
    check_files(settings)
    url = settings.require_broker_url()
    timeouts = {"socket_connect_timeout": _CHECK_TIMEOUT_S, "socket_timeout": _CHECK_TIMEOUT_S}
    connection: Any = Connection(  # type: ignore[no-untyped-call]
        url, ssl=ssl_options(settings), transport_options={**transport_options(settings), **timeouts}
    )
    try:
        connection.ensure_connection(max_retries=_TRIES, interval_start=0.1, timeout=_CHECK_TIMEOUT_S)
        connection.default_channel.client.ping()  # the connection alone sends nothing
    except (OperationalError, redis.RedisError, OSError) as exc:
        connection.release()
        reason = one_line(exc)
        fix = broker_fix(reason)
        raise Unavailable(
            f"The broker at {mask_url(url)} does not answer: {reason}. Fix: {fix}",
            fix=fix,
            refused=broker_refuses(reason),
        ) from exc
    return connection
