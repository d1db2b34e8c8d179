"""Users over HTTP."""

from orchestrator.client.groups.group import By
from orchestrator.client.groups.users import UserShown
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group
from orchestrator.client.remote.transport import part
from orchestrator.core.access import Role


class HttpUsers(Group):
    """As `Users`."""

    def listed(self) -> list[UserShown]:
        """As `Users.listed`."""
        return self._client.listed(UserShown, "/users", {}, None)

    def create(self, name: str, role: Role, password: str, *, by: By = None) -> UserShown:
        """As `Users.create`."""
        nobody_else(by)
        return self._client.transport.post(UserShown, "/users", {"name": name, "role": role, "password": password})

    def set_password(self, name: str, password: str, *, by: By = None) -> None:
        """As `Users.set_password`."""
        self._tell(f"/users/{part(name)}/password", {"password": password}, by)

    def set_role(self, name: str, role: Role, *, by: By = None) -> UserShown:
        """As `Users.set_role`."""
        nobody_else(by)
        return self._client.transport.post(UserShown, f"/users/{part(name)}/role", {"role": role})

    def disable(self, name: str, *, reason: str | None = None, by: By = None) -> None:
        """As `Users.disable`."""
        self._tell(f"/users/{part(name)}/disable", {"reason": reason}, by)

    def enable(self, name: str, *, by: By = None) -> None:
        """As `Users.enable`."""
        self._tell(f"/users/{part(name)}/enable", None, by)
