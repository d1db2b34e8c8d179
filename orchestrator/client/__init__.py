"""Starting flows and operating runs from any Python program."""

from orchestrator.client.aclient import AsyncClient
from orchestrator.client.client import Client
from orchestrator.client.operations import OperationHandle
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.schedule_handle import ScheduleHandle

__all__ = ["AsyncClient", "Client", "OperationHandle", "RunHandle", "ScheduleHandle"]
