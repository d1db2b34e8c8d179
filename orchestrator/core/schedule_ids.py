"""What schedules and flows are called: in events, in jitter, among people."""

from typing import Final
from uuid import UUID, uuid5

_SCHEDULES: Final = UUID("5c3ed01e-5d29-4f1c-9a0e-8a8a3a1c2b07")
_FLOWS: Final = UUID("a4b83f7e-31c5-4d0b-8f53-6a1a5bd0f7c2")


def schedule_name(flow: str, key: str) -> str:
    """`flow/key`: also what a tick's jitter is drawn from."""
    return f"{flow}/{key}"


def schedule_id(flow: str, key: str) -> UUID:
    """The `run_id` of the schedule's events: the same in every process and for ever."""
    return uuid5(_SCHEDULES, schedule_name(flow, key))


def flow_id(flow: str) -> UUID:
    """The `run_id` of the flow's own events: what was refused, who switched it."""
    return uuid5(_FLOWS, flow)
