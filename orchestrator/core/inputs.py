"""What a flow takes: an input is parsed once, checked against the flow's schema once, and filled with its defaults."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.core import values
from orchestrator.core.schemas import misfit
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import InputInvalid


@dataclass(frozen=True, slots=True)
class Input:
    """The input of one run: the JSON text that was given, the one that is stored, with the defaults of what it leaves
    out, and the value of the latter."""

    given: str = field(repr=False)
    text: str = field(repr=False)
    value: Any = field(repr=False)

    @property
    def canonical(self) -> str:
        """See `canonical`."""
        return canonical(self.value)

    @property
    def digest(self) -> str:
        """Tells whether two requests are the same."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def canonical(value: Any) -> str:
    """The same text for the same value, however it was written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class Inputs:
    """What one version of a flow takes."""

    def __init__(self, flow: str, schema: Mapping[str, Any]) -> None:
        self._flow = flow
        self._schema = schema
        properties = schema.get("properties")
        self._known: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        self._defaults = {
            name: part["default"] for name, part in self._known.items() if isinstance(part, dict) and "default" in part
        }

    @cached_property
    def _schema_text(self) -> str:
        """A key for the cache of validators."""
        return json.dumps(self._schema, sort_keys=True)

    def read(self, text: str, names: frozenset[str]) -> Input:
        """An input that comes from outside. Fields of these names are not quoted.

        Raises:
            InputInvalid: it is not JSON, holds what cannot be stored, or does not fit; `path` says where.
        """
        try:
            value = json.loads(text, parse_constant=_not_json)
        except (ValueError, RecursionError) as exc:
            raise InputInvalid(
                f"The input of flow {self._flow} is not JSON: {exc}. Fix: send a JSON object.", flow=self._flow, path=""
            ) from exc
        refused = values.refusal(value) if values.suspect(text) else None
        if refused is not None:
            raise InputInvalid(
                f"The input of flow {self._flow} holds at `{refused.place}` {refused.problem}, which cannot be "
                "stored. Fix: replace or remove it.",
                flow=self._flow,
                path=refused.place,
            )
        self.check(value, names)
        return self._filled(text, value)

    def accept(self, text: str) -> Input:
        """An input that was checked already: by the code of the flow, or before it was stored."""
        return self._filled(text, json.loads(text))

    def check(self, value: object, names: frozenset[str]) -> None:
        """Fields of these names are not quoted.

        Raises:
            InputInvalid: the value does not fit the schema.
        """
        path, problem = "", self._unknown(value)  # of which there may be many, so they are looked for first
        if not problem:
            error = misfit(self._schema_text, value, names)
            if error is None:
                return
            path, problem = values.show_path(error.path), f"{error.message}."
        raise InputInvalid(
            f"The input of flow {self._flow} does not fit{f' at `{path}`' if path else ''}: "
            f"{problem} Fix: see `orchestrator flow show {self._flow}` for what it takes.",
            flow=self._flow,
            path=path,
        )

    def _filled(self, text: str, value: Any) -> Input:
        """With the defaults of what it leaves out, so that steps find every parameter.

        They are put at the end of the text: what was given is stored to the last digit.
        """
        missing = {}
        if isinstance(value, dict):
            missing = {name: default for name, default in self._defaults.items() if name not in value}
        if not missing:
            return Input(text, text, value)
        added = json.dumps(missing, ensure_ascii=False)
        return Input(text, f"{text.rstrip()[:-1]}, {added[1:]}" if value else added, {**value, **missing})

    def _unknown(self, value: object) -> str:
        """The first parameter that the flow does not have: more likely a slip than the one that is then missing."""
        if not isinstance(value, dict) or self._schema.get("additionalProperties") is not False:
            return ""
        name = next((name for name in value if name not in self._known), None)
        return "" if name is None else f"unknown input `{name}`; {did_you_mean(name, self._known) or 'it takes none.'}"


def _not_json(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
