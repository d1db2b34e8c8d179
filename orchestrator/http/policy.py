"""Who may ask for what: one line for each route, by its `operationId`. A route that is not here is for an unlimited
admin only, and fails a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from orchestrator.core.access import Role, Scope


class Reach(Enum):
    """How a key that is limited to some flows is held to them."""

    FLOW = auto()  # the path names the flow
    RUN = auto()  # the path names a run, which must be of such a flow
    NAMED = auto()  # a list: `?flow=` must name one
    NONE = auto()  # it is about no flow
    ALL = auto()  # it is about every flow: not for such keys


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route takes. `scope` None: a key of any scope may."""

    role: Role
    scope: Scope | None
    reach: Reach


METRICS: Final = "metrics_show"


def _rules(scope: Scope | None, reach: Reach, **by_role: str) -> dict[str, Rule]:
    return {name: Rule(Role(role), scope, reach) for role, names in by_role.items() for name in names.split()}


RULES: Final[Mapping[str, Rule]] = {
    **_rules(
        Scope.FLOWS,
        Reach.FLOW,
        viewer="flow_show flow_manifest flow_graph flow_versions flow_events flow_unserved flow_open_steps "
        "flow_given_outputs",
        operator="flow_enable flow_disable",
        admin="flow_delete flow_deploy",
    ),
    **_rules(Scope.FLOWS, Reach.ALL, viewer="flow_ls manifest_show handler_ls"),
    **_rules(Scope.TRIGGER, Reach.FLOW, operator="run_start run_start_many"),
    **_rules(Scope.RUNS, Reach.NAMED, viewer="run_ls run_stats run_errors run_export event_stream"),
    **_rules(Scope.RUNS, Reach.ALL, viewer="run_active"),
    **_rules(
        Scope.RUNS,
        Reach.RUN,
        viewer="run_show run_events run_control run_explain run_result run_graph run_children run_tree run_steps "
        "step_show step_output run_timeline run_reruns run_logs run_log_places",
        operator="run_cancel run_retry run_rerun step_retry step_skip step_mark run_signal",
        admin="run_delete",
    ),
    **_rules(Scope.SECRETS, Reach.RUN, admin="run_reveal step_reveal"),
    **_rules(
        Scope.OPERATIONS,
        Reach.ALL,
        viewer="operation_ls operation_show operation_outcomes",
        # Those that delete runs are an admin's, as `run_delete`: the route says so.
        operator="operation_create operation_pause operation_resume operation_cancel",
    ),
    **_rules(Scope.APPROVALS, Reach.ALL, viewer="approval_ls"),
    **_rules(Scope.APPROVALS, Reach.RUN, viewer="approval_show", operator="approval_answer"),
    **_rules(Scope.SCHEDULES, Reach.NAMED, viewer="schedule_ls"),
    **_rules(
        Scope.SCHEDULES,
        Reach.FLOW,
        viewer="schedule_show schedule_preview schedule_history schedule_events schedule_lag schedule_explain",
        operator="schedule_pause schedule_resume schedule_trigger schedule_backfill schedule_backfill_cancel",
        admin="schedule_set schedule_reset",
    ),
    **_rules(
        Scope.WEBHOOKS,
        Reach.ALL,
        viewer="webhook_ls webhook_recent webhook_stats webhook_show subscription_ls subscription_show "
        "notification_ls notification_show",
        operator="webhook_replay subscription_test subscription_redrive notification_redrive",
        # What is told goes out of the house: who may say where.
        admin="subscription_create subscription_update subscription_rotate subscription_delete",
    ),
    **_rules(Scope.METRICS, Reach.ALL, viewer=METRICS),
    **_rules(
        Scope.WORKERS,
        Reach.ALL,
        viewer="worker_ls unserved_ls queue_ls release_ls scaling_show evidence_ls",
        operator="smoke_begin evidence_record worker_drain",
    ),
    **_rules(
        Scope.ACCESS,
        Reach.ALL,
        admin="key_ls key_create key_rotate key_revoke user_ls user_create user_passwd user_role user_disable "
        "user_enable session_ls session_end audit_ls",
    ),
    **_rules(None, Reach.NONE, viewer="whoami session_close"),
}
PUBLIC: Final = frozenset(
    {
        "session_create",
        "session_oidc_start",
        "session_oidc_callback",
        "problem_show",
        "webhook_receive",
        "webhook_challenge",
        "health_liveness",
        "health_readiness",
        "health_show",
    }
)
"""Routes that ask nobody who they are; publishers prove it by what they sign."""
SECRET_ANSWERS: Final = frozenset(
    {"session_create", "key_create", "key_rotate", "subscription_create", "subscription_rotate"}
    | {"run_reveal", "step_reveal"}
)
"""What takes no `Idempotency-Key`: answers are kept for it, and these are kept nowhere."""
SECRET_REQUESTS: Final = frozenset({"user_create", "user_passwd"})
"""What says a password."""
UNLISTED: Final = Rule(Role.ADMIN, Scope.ACCESS, Reach.ALL)


def rule_of(operation: str) -> Rule:
    """What a route takes that is not public."""
    return RULES.get(operation, UNLISTED)
