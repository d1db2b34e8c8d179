"""What a schedule is called: in events, in jitter, among people."""

from typing import Final
from uuid import UUID, uuid5

_SCHEDULES: Final = UUID("5c3ed01e-5d29-4f1c-9a0e-8a8a3a1c2b07")


def schedule_name(flow: str, key: str) -> str:
    """`flow/key`: also what a tick's jitter is drawn from."""
    return f"{flow}/{key}"


def schedule_id(flow: str, key: str) -> UUID:
    """The `run_id` of the schedule's events: the same in every process and for ever."""
    return uuid5(_SCHEDULES, schedule_name(flow, key))
