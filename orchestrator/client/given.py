"""What a caller gives: inputs, payloads, statuses, limits; and who that is."""

import getpass
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from orchestrator.authoring.flow import Flow
from orchestrator.core.operations import Action, Outcome
from orchestrator.core.release import release
from orchestrator.core.signals import key_text
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.values import Codec, dumps
from orchestrator.errors import UsageError

S = TypeVar("S", bound=StrEnum)


def body_of(flow: Flow[..., Any] | None, given: object, secret_names: Collection[str]) -> str:
    """An input as JSON text, checked and encoded by the flow if that is at hand. Fields of these names are not quoted.

    Raises:
        UsageError: it is not a mapping.
        InputInvalid: it does not fit the flow.
    """
    return dumps(mapping(given)) if flow is None else flow.encode_given(mapping(given), secret_names)


def mapping(given: object) -> dict[str, Any]:
    """An input that was given as one value.

    Raises:
        UsageError: it is not a mapping.
    """
    if not isinstance(given, Mapping):
        raise UsageError(
            f"The input is of type {type(given).__name__}. Fix: give a mapping, such as {{'name': value}}."
        )
    return dict(given)


def given_once(input: Mapping[str, Any] | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An input of a mapping and of keywords.

    Raises:
        UsageError: it is no mapping, or something is in both.
    """
    given = {} if input is None else mapping(input)
    if twice := given.keys() & parameters.keys():
        raise UsageError(f"`{min(twice)}` is given in the mapping and as a keyword. Fix: give it once.")
    return {**given, **parameters}


def check_starts(tags: Iterable[object], inputs: Sequence[object], keys: Sequence[object] | None) -> None:
    """
    Raises:
        UsageError: tags or idempotency keys are no texts, or there is not a key for each input.
    """
    if isinstance(tags, str):
        raise UsageError(f"tags={tags!r} is a single string. Fix: write tags=[{tags!r}].")
    _texts("A tag", tags)
    _texts("An idempotency key", (key for key in keys or () if key is not None))
    if keys is not None and len(keys) != len(inputs):
        raise UsageError(f"There are {len(inputs)} inputs and {len(keys)} idempotency keys. Fix: give one for each.")


def _texts(what: str, given: Iterable[object]) -> None:
    for one in given:
        if not isinstance(one, str):
            raise UsageError(f"{what} is a string, not {one!r}. Fix: give {str(one)!r}.")


def payload_text(payload: object) -> str:
    """Of a plain value, a model or a dataclass."""
    return Codec(type(payload)).dumps(payload)


def signal_key(key: object) -> str:
    try:
        return key_text(Codec(type(key)).to_json_value(key))
    except ValueError as exc:
        raise UsageError(f"The key of a signal: {exc}. Fix: give one value, such as an order's id.") from exc


_NOUNS: Final[Mapping[type[StrEnum], str]] = {
    RunStatus: "run status",
    StepStatus: "step status",
    Action: "action on many runs",
    Outcome: "outcome",
}


def known(kind: type[S], word: str) -> S:
    """The one of that name.

    Raises:
        UsageError: there is none, with the nearest one.
    """
    try:
        return kind(word)
    except ValueError:
        fix = did_you_mean(word, list(kind))
        raise UsageError(f"There is no {_NOUNS[kind]} {word!r}. Fix: {fix}") from None


def at_least_one(limit: int) -> int:
    """
    Raises:
        UsageError: the limit is below 1.
    """
    if limit < 1:
        raise UsageError(f"The limit is {limit}. Fix: ask for 1 or more.")
    return limit


def user() -> str:
    """The login name, as the author of a change."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user id may have no name
        return f"uid {os.getuid()}"


def whoami(name: str | None = None) -> str:
    """Who changes a definition, from where, with which release."""
    return f"{name or user()}@{socket.gethostname()} (release {release()})"
