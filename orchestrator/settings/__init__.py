"""The settings of every process, read once from the environment and passed down as values.

`Settings.from_env(os.environ)` is called by entry points only. Each field is one variable: `lease` is
ORCHESTRATOR_LEASE. A misspelt or wrong variable stops the start and names the fix; every problem is reported at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from orchestrator.core.payload import StoreUrl
from orchestrator.core.reach import Pooler, Reach
from orchestrator.core.suggest import closest
from orchestrator.errors import SettingsInvalid
from orchestrator.payloads import Payloads
from orchestrator.settings.fields import Fields
from orchestrator.settings.files import with_files
from orchestrator.settings.fitting import misfits
from orchestrator.settings.names import PREFIX, variable
from orchestrator.settings.urls import MASK, mask_url

__all__ = ["PREFIX", "Settings", "variable"]


class Settings(Fields):
    """What a process needs to know from outside. Immutable; secrets are masked when printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if problems := misfits(self):
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read every ORCHESTRATOR_* variable of `env`; an empty one counts as not set. ORCHESTRATOR_X_FILE names a file
        with the value of ORCHESTRATOR_X, as secrets are given to containers.

        Raises:
            SettingsInvalid: a name is unknown or a value is wrong; the message lists all of them, secrets masked.
        """
        given = with_files({name: value for name, value in env.items() if name.startswith(PREFIX)}, cls.model_fields)
        unknown = [_unknown(name) for name in sorted(given) if _field(name) not in cls.model_fields]
        values = {
            _field(name): text for name, text in given.items() if _field(name) in cls.model_fields and text.strip()
        }
        try:
            settings = cls.model_validate(values)
        except ValidationError as exc:
            problems = [line for error in exc.errors(include_url=False) for line in _lines(error, values)]
            raise SettingsInvalid("\n".join([*unknown, *problems])) from None
        if unknown:
            raise SettingsInvalid("\n".join(unknown))
        return settings

    def require_database_url(self) -> str:
        """The ledger's URL. Raises SettingsInvalid when none is set."""
        if self.database_url is None and self.api_url is not None:
            raise SettingsInvalid(
                f"This needs the database itself; {variable('api_url')} is set, and {variable('database_url')} is not. "
                f"Fix: do it where the database can be reached, and set {variable('database_url')} there."
            )
        if self.database_url is None:
            raise SettingsInvalid(_missing("DATABASE_URL", "postgresql://user:password@host:5432/database"))
        return self.database_url.get_secret_value()

    def reach(self) -> Reach:
        """How `database_url` is used."""
        return Reach(Pooler(self.database_pooler), self.statement_timeout, self.database_max_overflow)

    def direct(self) -> tuple[str, Reach]:
        """The URL for what the owner of the schema does, and how it is used: past the pooler, if we know a way."""
        if self.database_direct_url is None:
            return self.require_database_url(), self.reach()
        return self.database_direct_url.get_secret_value(), replace(self.reach(), pooler=Pooler.NONE)

    def payloads(self) -> Payloads:
        """Long outputs, as a process with these settings reads and writes them."""
        url = None if self.payload_store is None else StoreUrl.read(self.payload_store)
        return Payloads(url, self.payload_threshold, self.payload_cap)

    def require_broker_url(self) -> str:
        """The broker's URL. Raises SettingsInvalid when none is set."""
        if self.broker_url is None:
            raise SettingsInvalid(_missing("BROKER_URL", "redis://:password@host:6379/0"))
        return self.broker_url.get_secret_value()


def _field(name: str) -> str:
    return name.removeprefix(PREFIX).lower() if name == name.upper() else name


def _unknown(name: str) -> str:
    known = [variable(field) for field in Settings.model_fields]
    guess = closest(name.upper(), known)
    fix = f"did you mean {guess}?" if guess else f"unset it; known are {', '.join(known)}."
    return f"Unknown setting {name}. Fix: {fix}"


def _missing(suffix: str, example: str) -> str:
    return (
        f"{PREFIX}{suffix} is not set. Fix: set it, as in {PREFIX}{suffix}={example}, "
        "or run `orchestrator dev`, which brings its own servers."
    )


def _lines(error: ErrorDetails, values: Mapping[str, str]) -> list[str]:
    if not error["loc"]:
        return str(error["ctx"]["error"]).split("\n")
    field = str(error["loc"][0])
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else _plain(error)
    inside = ".".join(map(str, error["loc"][1:]))
    place = f"`{inside}`: " if inside and error["loc"][1:] != ("[key]",) else ""
    return [f"{variable(field)}={_shown(field, values[field])} cannot be used: {place}{_ended(reason)}"]


def _plain(error: ErrorDetails) -> str:
    """Pydantic's own message as the rest of our sentence."""
    if error["type"] == "missing":
        return "it is missing. Fix: add it"
    if error["type"] == "extra_forbidden":
        return "it is not known. Fix: leave it out, or correct its name"
    text = error["msg"].removeprefix("Input ").removesuffix(".")
    return f"it {text}. Fix: write a value that does"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _shown(field: str, value: str) -> str:
    if field.endswith("_url"):
        return repr(mask_url(value))
    if field in {
        "broker_transport_options",
        "broker_use_ssl",
        "redbeat_options",
        "smtp_password",
        "oidc_client_secret",
    }:
        return MASK  # may hold a password, if not of the field, then of a Sentinel or a key
    return repr(value)
