"""The groups of both clients have the same surface, so that whoever uses them does not see which one it is."""

import inspect
from typing import Any, get_type_hints

import pytest

from orchestrator.client.groups.members import Groups
from orchestrator.client.remote.groups.members import HttpGroups

NAMES = sorted(name for name, value in inspect.getmembers(Groups) if isinstance(value, property))


def group(kind: type, name: str) -> type:
    made: type = get_type_hints(getattr(kind, name).fget)["return"]
    return made


def surface(kind: type) -> dict[str, Any]:
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(method) for name, method in methods if not name.startswith("_")}


@pytest.mark.parametrize("name", NAMES)
def test_a_group_has_the_same_methods_over_http(name: str) -> None:
    assert surface(group(Groups, name)) == surface(group(HttpGroups, name))


def test_there_are_groups() -> None:
    assert NAMES == [
        "audit",
        "flows",
        "keys",
        "notifications",
        "subscriptions",
        "trials",
        "users",
        "webhooks",
        "workers",
    ]
