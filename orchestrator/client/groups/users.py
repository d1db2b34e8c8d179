"""People who sign in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from orchestrator.client.groups.group import By, Group, actor
from orchestrator.core.access import Role
from orchestrator.engine.access import users
from orchestrator.ledger.access import UserRow


@dataclass(frozen=True, slots=True)
class UserShown:
    """A user. `password`: whether they have one, or come from a provider of identities."""

    name: str
    role: str
    groups: Sequence[str]
    password: bool
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    signed_in_at: datetime | None

    @classmethod
    def of(cls, row: UserRow) -> Self:
        has_password = row.password_hash is not None
        times = row.created_at, row.created_by, row.disabled_at, row.signed_in_at
        return cls(row.name, row.role, row.groups, has_password, *times)


class Users(Group):
    """Users, with a password or from a provider of identities."""

    def listed(self) -> list[UserShown]:
        """All, by name."""
        return [UserShown.of(row) for row in self._client.call(users.listed)]

    def create(self, name: str, role: Role, password: str, *, by: By = None) -> UserShown:
        """Add a user with a password.

        Raises:
            UsageError: the name or the password does not fit.
            NameTaken: there is one of that name.
        """
        return UserShown.of(self._client.call_once(users.create, name, role, password, actor(by)))

    def set_password(self, name: str, password: str, *, by: By = None) -> None:
        """Give a user another password; their sessions end.

        Raises:
            UsageError: it does not fit.
            UserNotFound: there is none.
        """
        self._client.call_once(users.set_password, name, password, actor(by))

    def set_role(self, name: str, role: Role, *, by: By = None) -> UserShown:
        """Give a user another role; it holds for sessions that are open, too.

        Raises:
            UserNotFound: there is none.
        """
        return UserShown.of(self._client.call(users.set_role, name, role, actor(by)))

    def disable(self, name: str, *, reason: str | None = None, by: By = None) -> None:
        """Let a user in no more, and end their sessions.

        Raises:
            UserNotFound: there is none.
        """
        self._client.call(users.disable, name, actor(by), reason=reason)

    def enable(self, name: str, *, by: By = None) -> None:
        """Let a user in again.

        Raises:
            UserNotFound: there is none.
        """
        self._client.call(users.enable, name, actor(by))
