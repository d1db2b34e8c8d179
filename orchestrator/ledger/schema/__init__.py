"""The ledger's tables as SQLAlchemy metadata; `migrations/` builds the same schema (a test compares them).

Rules held here:

- Keys of the big tables begin with the run id (UUIDv7), so they can be partitioned by run id later; they carry no
  foreign keys for the same reason, and because one lookup per insert is what the hot path cannot spare.
- Indexes that work needs every second are partial: they hold live rows only and stay small as history grows.
- Payloads are `json`, not `jsonb`: what was stored comes back to the last digit (jsonb rewrites 1e22 and -0.0).
- States are domains. A CHECK of a table is parsed and planned again by every statement that writes it, which took a
  fifth of a step's CPU in the database; a domain's is kept by the session (ADR 0009).
- Time is `flow_now()`: the database's clock, which tests move by replacing that one function.
"""

from orchestrator.ledger.schema.access import flow_api_keys, flow_audit, flow_sessions, flow_sign_ins, flow_users
from orchestrator.ledger.schema.base import metadata
from orchestrator.ledger.schema.definitions import flow_definition_versions, flow_definitions, flow_workers
from orchestrator.ledger.schema.evidence import flow_evidence
from orchestrator.ledger.schema.functions import FUNCTIONS
from orchestrator.ledger.schema.logs import flow_step_logs
from orchestrator.ledger.schema.operations import flow_operation_runs, flow_operations
from orchestrator.ledger.schema.payloads import flow_payload_stores, flow_payloads
from orchestrator.ledger.schema.requests import flow_request_keys
from orchestrator.ledger.schema.rollups import flow_rollup_pages, flow_rollup_state, flow_run_rollups
from orchestrator.ledger.schema.runs import flow_events, flow_idempotency_keys, flow_run_controls, flow_runs
from orchestrator.ledger.schema.schedules import flow_schedule_backfills, flow_schedule_states, flow_schedule_ticks
from orchestrator.ledger.schema.signals import flow_signal_waiters, flow_signals
from orchestrator.ledger.schema.steps import (
    flow_outputs,
    flow_step_attempts,
    flow_step_claims,
    flow_step_dispatches,
    flow_steps,
)
from orchestrator.ledger.schema.subscriptions import (
    flow_endpoints,
    flow_notification_attempts,
    flow_notification_feed,
    flow_notifications,
    flow_subscriptions,
)
from orchestrator.ledger.schema.webhooks import flow_webhook_deliveries, flow_webhook_nonces, flow_webhooks

__all__ = [
    "metadata",
    "FUNCTIONS",
    "flow_definitions",
    "flow_definition_versions",
    "flow_workers",
    "flow_runs",
    "flow_run_controls",
    "flow_idempotency_keys",
    "flow_events",
    "flow_steps",
    "flow_step_attempts",
    "flow_outputs",
    "flow_step_dispatches",
    "flow_step_claims",
    "flow_payloads",
    "flow_payload_stores",
    "flow_signal_waiters",
    "flow_signals",
    "flow_schedule_states",
    "flow_schedule_ticks",
    "flow_schedule_backfills",
    "flow_api_keys",
    "flow_users",
    "flow_sessions",
    "flow_sign_ins",
    "flow_audit",
    "flow_operations",
    "flow_operation_runs",
    "flow_step_logs",
    "flow_run_rollups",
    "flow_rollup_pages",
    "flow_rollup_state",
    "flow_webhooks",
    "flow_webhook_deliveries",
    "flow_webhook_nonces",
    "flow_subscriptions",
    "flow_endpoints",
    "flow_notification_feed",
    "flow_notifications",
    "flow_notification_attempts",
    "flow_request_keys",
    "flow_evidence",
]
