"""Starting flows and operating runs from any Python program."""

from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator.client.aclient import AsyncClient
from orchestrator.client.client import Client
from orchestrator.client.operations import OperationHandle
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.schedule_handle import ScheduleHandle

if TYPE_CHECKING:  # it needs an HTTP library, which only its users have installed
    from orchestrator.client.remote.aclient import AsyncHttpClient
    from orchestrator.client.remote.client import HttpClient
    from orchestrator.client.remote.run import HttpRunHandle

__all__ = [
    "AsyncClient",
    "AsyncHttpClient",
    "Client",
    "HttpClient",
    "HttpRunHandle",
    "OperationHandle",
    "RunHandle",
    "ScheduleHandle",
]

_LAZY = {
    "AsyncHttpClient": "orchestrator.client.remote.aclient",
    "HttpClient": "orchestrator.client.remote.client",
    "HttpRunHandle": "orchestrator.client.remote.run",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
