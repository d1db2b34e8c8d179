"""Values of settings that are in files: ORCHESTRATOR_DATABASE_URL_FILE=/run/secrets/database_url."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Final

from orchestrator.errors import SettingsInvalid
from orchestrator.settings.names import PREFIX

_SUFFIX: Final = "_FILE"
_MOST: Final = 65_536


def with_files(given: Mapping[str, str], fields: Container[str]) -> dict[str, str]:
    """The variables, those that name a file replaced by what is in it, without the end of its last line.

    Raises:
        SettingsInvalid: a file cannot be read, or its setting is given twice.
    """
    found = dict(given)
    for name, path in given.items():
        setting = name.removesuffix(_SUFFIX)
        if setting == name or setting.removeprefix(PREFIX).lower() not in fields:
            continue
        del found[name]
        if not path.strip():
            continue
        if given.get(setting, "").strip():
            raise SettingsInvalid(f"{setting} and {name} are both set. Fix: unset one of them.")
        found[setting] = _read(name, path.strip())
    return found


def _read(name: str, path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise SettingsInvalid(
            f"{name}={path!r} cannot be read: {reason}. Fix: correct the path, or let this user read the file."
        ) from None
    if len(text) > _MOST:
        raise SettingsInvalid(f"{name}={path!r} is longer than {_MOST} characters. Fix: name the file with the value.")
    return text.rstrip("\r\n")
