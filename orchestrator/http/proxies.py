"""What proxies in front of the API say: where a request came from, and who somebody is. Only those that are listed are
believed."""

from collections.abc import Mapping
from typing import Final

from fastapi import Request

from orchestrator.core.access import Grant, Role, is_user_name
from orchestrator.errors import Forbidden, SettingsInvalid, UsageError
from orchestrator.http.caller import Caller
from orchestrator.settings import Settings
from orchestrator.webhooks.addresses import AddressList, client_address

_LEAST: Final = list(Role)


class Proxies:
    """Those that the settings list."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: the list is malformed.
        """
        try:
            self._trusted = AddressList.parse(settings.trusted_proxies)
        except UsageError as exc:
            raise SettingsInvalid(f"ORCHESTRATOR_TRUSTED_PROXIES: {exc.message}") from exc
        self._any = bool(settings.trusted_proxies)
        self._depth = settings.proxy_depth
        self._user, self._groups = settings.proxy_user_header, settings.proxy_groups_header
        self._roles: Mapping[str, Role] = settings.group_roles

    def address(self, request: Request) -> str | None:
        """Where a request came from; None when that cannot be told."""
        peer = None if request.client is None else request.client.host
        forwarded = request.headers.getlist("x-forwarded-for")
        return client_address(peer, forwarded, self._depth, self._trusted if self._any else None)

    def user(self, request: Request) -> Caller | None:
        """Whom a trusted proxy has signed in; None: it says nothing, or it is none.

        Raises:
            Forbidden: no group of theirs has a role.
        """
        if self._user is None or request.client is None or not self._any:
            return None
        names = request.headers.getlist(self._user)
        if len(names) != 1 or not is_user_name(names[0]) or not self._trusted.lets_in(request.client.host):
            return None
        given = request.headers.getlist(self._groups) if self._groups else []
        groups = tuple(group for value in given for one in value.split(",") if (group := one.strip()))
        return Caller(names[0], Grant(role_of(groups, self._roles, names[0])), groups=groups, browser=True)


def role_of(groups: tuple[str, ...], roles: Mapping[str, Role], name: str) -> Role:
    """The highest role of these groups; `*` is everybody's.

    Raises:
        Forbidden: they have none.
    """
    found = [role for group, role in roles.items() if group == "*" or group in groups]
    if not found:
        raise Forbidden(f"No group of {name} has a role. Fix: name one of them in ORCHESTRATOR_GROUP_ROLES.")
    return max(found, key=_LEAST.index)
