"""What all tables share."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Text, text
from sqlalchemy.dialects.postgresql import DOMAIN

from orchestrator.core.operations import OperationState, Outcome
from orchestrator.core.states import ATTEMPT, HALT, STORED_RUN, TICK, StepStatus
from orchestrator.core.subscriptions import NotificationState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NOW = text("flow_now()")
KEY = Text(collation="C")
"""Step keys compare byte by byte: quicker, and `loop.` to `loop/` is the range of a loop's children."""
HOT: dict[str, Any] = {"postgresql_with": {"fillfactor": "80"}}
"""Room on the page for the updates that every row of a hot table gets."""


def _states(name: str, values: Iterable[str]) -> DOMAIN:
    listed = ", ".join(f"'{value}'" for value in sorted(values))
    return DOMAIN(name, Text, constraint_name=f"ck_{name}", check=f"VALUE IN ({listed})", metadata=metadata)


RUN_STATUS = _states("flow_run_status", STORED_RUN)
RUN_HALT = _states("flow_run_halt", HALT)
STEP_STATUS = _states("flow_step_status", StepStatus)
ATTEMPT_STATUS = _states("flow_attempt_status", ATTEMPT)
TICK_OUTCOME = _states("flow_tick_outcome", TICK)
OPERATION_STATE = _states("flow_operation_state", OperationState)
OUTCOME = _states("flow_operation_outcome", Outcome)
NOTIFICATION_STATE = _states("flow_notification_state", NotificationState)


def when(name: str, **options: object) -> Column[object]:
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]
