"""The asynchronous client and the one over HTTP keep up with the plain one: every method, every parameter."""

import inspect
from typing import Any

import pytest

from orchestrator.client import AsyncClient, Client
from orchestrator.client.access import Access
from orchestrator.client.ahandles import AsyncRunHandle, AsyncScheduleHandle
from orchestrator.client.aoperations import AsyncOperationHandle
from orchestrator.client.groups.members import Groups
from orchestrator.client.operations import OperationHandle
from orchestrator.client.remote.aclient import AsyncHttpClient
from orchestrator.client.remote.client import HttpClient
from orchestrator.client.remote.operations import HttpOperationHandle
from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.schedule import HttpScheduleHandle
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.schedule_handle import ScheduleHandle

OWN = {"call", "call_once", "read", "publish", "sending", "after_fork"}
"""A client's attributes; `AsyncClient` has the whole client as `sync`."""
HALVES = {"outcome", "final", "must_have_succeeded", "final_status"}
"""What `wait` and `result` use inside."""


HTTP_OWN = {"listed", "value", "shown_value", "end_within"}
"""The same of the one over HTTP."""


def methods(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in inspect.getmembers(kind)
        if not name.startswith("_") and callable(value) and name not in OWN | HTTP_OWN | HALVES
    }


def parameters(method: Any) -> dict[str, tuple[Any, Any]]:
    """Those that a caller may name, with kind and default; of an overloaded method those of its first overload."""
    from typing import get_overloads

    shown = (get_overloads(method) or [method])[0]
    found = inspect.signature(shown).parameters.values()
    return {one.name: (one.kind, one.default) for one in found if one.name != "self"}


PAIRS = [
    (Client, AsyncClient),
    (OperationHandle, AsyncOperationHandle),
    (RunHandle, AsyncRunHandle),
    (ScheduleHandle, AsyncScheduleHandle),
    (HttpClient, AsyncHttpClient),
    (HttpOperationHandle, AsyncOperationHandle),
    (HttpRunHandle, AsyncRunHandle),
    (HttpScheduleHandle, AsyncScheduleHandle),
]


@pytest.mark.parametrize(("plain", "awaited"), PAIRS)
def test_every_method_is_there_with_its_parameters(plain: type, awaited: type) -> None:
    theirs = methods(awaited)
    assert methods(plain).keys() - theirs.keys() == set()
    differing = {
        name: (parameters(method), parameters(theirs[name]))
        for name, method in methods(plain).items()
        if parameters(method) != parameters(theirs[name])
    }
    assert differing == {}


@pytest.mark.parametrize(("plain", "awaited"), PAIRS)
def test_every_method_that_asks_is_awaited(plain: type, awaited: type) -> None:
    """But for those that return an iterator, which is asynchronous itself, `from_env`, and `end`, which is a future."""
    plainly = {
        name
        for name in methods(plain)
        if not inspect.iscoroutinefunction(getattr(awaited, name)) and not name.startswith("all_")
    }
    assert plainly <= {"from_env", "end"}


@pytest.mark.parametrize(("plain", "awaited"), PAIRS)
def test_every_public_attribute_is_there(plain: type, awaited: type) -> None:
    """Properties, such as whether a run is new; but for the groups, which programs reach by `sync`."""
    found = {name for name, value in inspect.getmembers(plain) if isinstance(value, property) and name[0] != "_"}
    groups = {name for name, value in inspect.getmembers(Groups) if isinstance(value, property)}
    assert {name for name in found if not hasattr(awaited, name)} <= {"dispatches", *groups}


def test_what_a_client_is_made_of_is_no_method_for_users() -> None:
    assert {name for name in OWN if not hasattr(Access, name)} == set()


OVER_HTTP: list[tuple[type, type]] = [
    (Client, HttpClient),
    (OperationHandle, HttpOperationHandle),
    (RunHandle, HttpRunHandle),
    (ScheduleHandle, HttpScheduleHandle),
]
LEDGER_ONLY = {
    "committed",  # of one's own transaction, which is a connection to the database
    "must_have_succeeded",  # what the API itself looks at
}
LEDGER_PARAMETERS = {"connection"}
"""Of one's own transaction."""


@pytest.mark.parametrize(("near", "far"), OVER_HTTP)
def test_the_client_over_http_has_every_method_with_its_parameters(near: type, far: type) -> None:
    """`by` is among them, and refused: whoever has the key is the author."""
    ours = {name: method for name, method in inspect.getmembers(near, callable) if name[0] != "_"}
    ours = {name: method for name, method in ours.items() if name not in OWN | LEDGER_ONLY}
    assert {name for name in ours if not hasattr(far, name)} == set()
    differing = {
        name: (known, given)
        for name, method in ours.items()
        for known, given in [(parameters(method), parameters(getattr(far, name)))]
        if {one: kind for one, kind in known.items() if one not in LEDGER_PARAMETERS}
        != {one: kind for one, kind in given.items() if one in known}
        or any(default is inspect.Parameter.empty for one, (_, default) in given.items() if one not in known)
    }
    assert differing == {}


@pytest.mark.parametrize(("near", "far"), OVER_HTTP)
def test_the_client_over_http_gives_what_the_other_one_gives(near: type, far: type) -> None:
    """The same types, but for handles, which are its own."""

    def answer(kind: type, name: str) -> str:
        return str(inspect.signature(getattr(kind, name)).return_annotation)

    names = [name for name in methods(near) if name not in LEDGER_ONLY and "Handle" not in answer(near, name)]
    assert {name for name in names if answer(near, name) != answer(far, name)} == set()
