"""The servers of this project: those that the environment names, or those of a running `orchestrator dev`."""

from collections.abc import Mapping
from pathlib import Path

from orchestrator.servers.embedded.discovery import find_running
from orchestrator.settings import Settings, variable


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
    return Settings.from_env({**env, **urls})
