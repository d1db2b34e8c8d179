"""The servers of this project: those that the environment names, or those of a running `orchestrator dev`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orchestrator.servers.embedded.discovery import find_running
from orchestrator.settings import Settings, variable

SIGNING_KEY: Final = "signing-key"


def settings_here(env: Mapping[str, str], start: Path) -> Settings:
    """The settings of `env`; where it names no server and no API, with those of the `orchestrator dev` that runs in
    this project.

    Raises:
        SettingsInvalid: a variable is unknown or wrong.
    """
    settings = Settings.from_env(env)
    if any((settings.database_url, settings.broker_url, settings.api_url)):
        return settings
    running = find_running(start)
    if running is None:
        return settings
    urls = {variable("database_url"): running.database_url, variable("broker_url"): running.broker_url}
    return Settings.from_env({**beside_dev(Path(running.data_dir)), **env, **urls})


def beside_dev(folder: Path) -> dict[str, str]:
    """What programs that a `dev` with this data directory runs are told where nobody else says it: subscriptions may be
    sent to this machine, and their secrets are made of a key of its own."""
    return {
        variable("signing_key"): f"file:{folder.absolute() / SIGNING_KEY}",
        variable("webhook_plain_http"): "true",
        variable("webhook_networks"): "127.0.0.0/8,::1",
        variable("webhook_ports"): "80,443,3000,5000,8000,8080,8443,9000",
    }
