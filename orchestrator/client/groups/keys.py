"""API keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Self

from orchestrator.client.groups.group import By, Group, actor
from orchestrator.core.access import Grant
from orchestrator.engine.access import keys
from orchestrator.engine.access.keys import NEVER, OVERLAP, MadeKey
from orchestrator.ledger.access import Expiry, KeyRow


@dataclass(frozen=True, slots=True)
class KeyShown:
    """A key, without what it is checked by."""

    id: str
    name: str
    role: str
    scopes: Sequence[str]
    flows: Sequence[str]
    state: str
    """`live`, `replaced` (it works until it expires), `expired` or `revoked`."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    replaced_by: str | None

    @classmethod
    def of(cls, row: KeyRow) -> Self:
        return cls(**{one.name: getattr(row, one.name) for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class KeyMade:
    """`key` is the secret: it is not shown again."""

    key: str = field(repr=False)
    shown: KeyShown

    @classmethod
    def of(cls, made: MadeKey) -> Self:
        return cls(made.text, KeyShown.of(made.row))


class Keys(Group):
    """API keys: what programs reach the API with."""

    def listed(self, *, ended: bool = False) -> list[KeyShown]:
        """Those that work; with `ended` the others, too."""
        return [KeyShown.of(row) for row in self._client.call(keys.listed, ended=ended)]

    def create(self, name: str, grant: Grant, *, expires: Expiry = NEVER, by: By = None) -> KeyMade:
        """Make a key.

        Raises:
            UsageError: the name does not fit, or the key would have expired already.
            NameTaken: a key that is not revoked has the name.
        """
        return KeyMade.of(self._client.call_once(keys.create, name, grant, actor(by), expires))

    def rotate(
        self, key: str, *, overlap: timedelta = OVERLAP, expires: Expiry | None = None, by: By = None
    ) -> KeyMade:
        """Make a key like that one, by its id or name; the one before works on for `overlap`. Without `expires` the new
        one lives as long as the other was made to.

        Raises:
            KeyNotFound: there is none.
            KeyEnded: it has expired, or was rotated before.
        """
        return KeyMade.of(self._client.call_once(keys.rotate, key, actor(by), overlap=overlap, expiry=expires))

    def revoke(self, key: str, *, reason: str | None = None, by: By = None) -> list[KeyShown]:
        """End a key by its id, or every key of a name, everywhere within five seconds. Those that were ended, as they
        were.

        Raises:
            KeyNotFound: there is none.
        """
        return [KeyShown.of(row) for row in self._client.call_once(keys.revoke, key, actor(by), reason=reason)]
