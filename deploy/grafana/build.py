"""`python -m deploy.grafana.build`: the four dashboards, written as JSON for Grafana out of the descriptions here.

A panel is a title, a unit and its queries. Gauges of the exporter are the same in every replica: `max by`, never `sum`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "dashboards"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24
_HEIGHT: Final = 8


@dataclass(frozen=True)
class Panel:
    """`queries`: legend to PromQL. `stat` shows the last value only."""

    title: str
    unit: str
    queries: dict[str, str]
    stat: bool = False
    width: int = 8


@dataclass(frozen=True)
class Dashboard:
    """`variables`: name to the query of Prometheus that lists its values; `rows`: title to panels."""

    uid: str
    title: str
    rows: dict[str, Sequence[Panel]]
    variables: dict[str, str] = field(default_factory=dict)


def p95(histogram: str, by: str, where: str = "") -> str:
    """The value that one of twenty is above."""
    chosen = f"{histogram}_bucket{{{where}}}" if where else f"{histogram}_bucket"
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({chosen}[$__rate_interval])))"


def top(query: str) -> str:
    """The ten greatest."""
    return f"topk(10, {query})"


def rate(counter: str, by: str = "", where: str = "") -> str:
    """A second, of all processes together."""
    chosen = f"{counter}{{{where}}}" if where else counter
    return f"sum{f' by ({by})' if by else ''} (rate({chosen}[$__rate_interval]))"


def gauge(name: str, by: str = "", where: str = "") -> str:
    """Of the exporter, from whichever replica."""
    return f"max{f' by ({by})' if by else ''} ({name}{f'{{{where}}}' if where else ''})"


_FAILED: Final = 'status=~"failed|timed_out"'
_PROMPT: Final = 'route!~".*[?]wait"'
"""Requests that were not told to wait."""
_NO_KEEPERS: Final = 'queues!=""'
OVERVIEW: Final = Dashboard(
    "floworch-overview",
    "Flows: overview",
    {
        "Now": [
            Panel("Open runs", "short", {"": f"sum({gauge('floworch_runs_active', 'flow, status')})"}, True, 4),
            Panel(
                "Live workers", "short", {"": f"sum({gauge('floworch_workers_live', 'queues', _NO_KEEPERS)})"}, True, 4
            ),
            Panel("Oldest ready step", "s", {"": gauge("floworch_queue_oldest_ready_seconds")}, True, 4),
            Panel("Latest schedule", "s", {"": gauge("floworch_cron_lag_seconds")}, True, 4),
            Panel("Beat", "bool_yes_no", {"": gauge("floworch_beats_live")}, True, 4),
            Panel("Look at the ledger", "bool_yes_no", {"": gauge("floworch_exporter_up")}, True, 4),
        ],
        "Runs": [
            Panel(
                "Started and ended",
                "ops",
                {
                    "started": rate("floworch_runs_started_total"),
                    "{{status}}": rate("floworch_runs_completed_total", "status"),
                },
            ),
            Panel(
                "Open, by status",
                "short",
                {"{{status}}": f"sum by (status) ({gauge('floworch_runs_active', 'flow, status')})"},
            ),
            Panel(
                "Failing, by flow",
                "ops",
                {"{{flow}}": top(rate("floworch_runs_completed_total", "flow", _FAILED))},
            ),
            Panel("Starts refused", "ops", {"{{reason}}": rate("floworch_runs_refused_total", "reason")}),
            Panel(
                "Ticks of schedules", "ops", {"{{outcome}} by {{by}}": rate("floworch_cron_ticks_total", "outcome, by")}
            ),
            Panel("Operators", "ops", {"{{action}}": rate("floworch_operators_actions_total", "action")}),
        ],
        "The API": [
            Panel(
                "Requests", "reqps", {"{{status_class}}": rate("floworch_api_requests_seconds_count", "status_class")}
            ),
            Panel(
                "One of twenty takes longer",
                "s",
                {"{{route}}": top(p95("floworch_api_requests_seconds", "route", _PROMPT))},
            ),
            Panel(
                "Deliveries",
                "reqps",
                {
                    "{{scheme}}": rate("floworch_webhooks_received_total", "scheme"),
                    "{{scheme}} turned away: {{reason}}": rate("floworch_webhooks_rejected_total", "scheme, reason"),
                },
            ),
            Panel(
                "Deliveries: one of twenty takes longer",
                "s",
                {"{{scheme}}": p95("floworch_webhooks_processing_seconds", "scheme")},
            ),
            Panel(
                "Deliveries: one of twenty is larger",
                "bytes",
                {"{{scheme}}": p95("floworch_webhooks_body_bytes", "scheme")},
            ),
            Panel(
                "Notifications",
                "short",
                {
                    "pending": gauge("floworch_notifications_pending"),
                    "{{outcome}} a second": rate("floworch_notifications_sent_total", "outcome"),
                },
            ),
        ],
    },
)

_OF_FLOW: Final = 'flow=~"$flow"'
FLOW: Final = Dashboard(
    "floworch-flow",
    "Flows: one flow",
    {
        "Runs": [
            Panel(
                "Started and ended",
                "ops",
                {
                    "started by {{trigger_type}}": rate("floworch_runs_started_total", "trigger_type", _OF_FLOW),
                    "{{status}}": rate("floworch_runs_completed_total", "status", _OF_FLOW),
                },
            ),
            Panel("Open", "short", {"{{status}}": gauge("floworch_runs_active", "flow, status", _OF_FLOW)}),
            Panel(
                "Oldest open",
                "s",
                {"{{status}}": gauge("floworch_runs_oldest_active_seconds", "flow, status", _OF_FLOW)},
            ),
            Panel(
                "One of twenty runs takes longer",
                "s",
                {"{{status}}": p95("floworch_runs_duration_seconds", "status", _OF_FLOW)},
            ),
            Panel(
                "Lateness of its schedules",
                "s",
                {"{{trigger}}": gauge("floworch_cron_lag_seconds", "flow, trigger", _OF_FLOW)},
            ),
            Panel(
                "Waits for signals: one of twenty is longer",
                "s",
                {"{{flow}}": p95("floworch_signals_wait_seconds", "flow", _OF_FLOW)},
            ),
        ],
        "Steps": [
            Panel(
                "Attempts",
                "ops",
                {
                    "{{step_type}} {{status}}": rate(
                        "floworch_steps_duration_milliseconds_count", "step_type, status", _OF_FLOW
                    )
                },
            ),
            Panel(
                "One of twenty attempts takes longer",
                "ms",
                {"{{step_type}}": p95("floworch_steps_duration_milliseconds", "step_type", _OF_FLOW)},
            ),
            Panel(
                "Tried again",
                "ops",
                {"{{step_type}}: {{reason}}": rate("floworch_steps_retries_total", "step_type, reason", _OF_FLOW)},
            ),
            Panel(
                "Lost with their process",
                "ops",
                {"{{step_type}}": rate("floworch_steps_crashed_total", "step_type", _OF_FLOW)},
            ),
            Panel("Skipped", "ops", {"{{step_type}}": rate("floworch_steps_skipped_total", "step_type", _OF_FLOW)}),
            Panel(
                "Polls until ready: one of twenty takes more",
                "short",
                {"{{step_type}}": p95("floworch_steps_poll_attempts", "step_type", _OF_FLOW)},
            ),
        ],
    },
    {"flow": "label_values(floworch_runs_active, flow)"},
)

_OF_QUEUE: Final = 'queue=~"$queue"'
WORKERS: Final = Dashboard(
    "floworch-workers",
    "Flows: workers and queues",
    {
        "Queues": [
            Panel("Steps", "short", {"{{queue}} {{state}}": gauge("floworch_queue_depth", "queue, state", _OF_QUEUE)}),
            Panel(
                "Oldest ready step",
                "s",
                {"{{queue}}": gauge("floworch_queue_oldest_ready_seconds", "queue", _OF_QUEUE)},
            ),
            Panel(
                "Ready, and nobody takes them",
                "short",
                {"{{queue}}": gauge("floworch_queue_unserved", "queue", _OF_QUEUE)},
            ),
            Panel(
                "From ready to claimed: one of twenty waits longer",
                "ms",
                {"{{queue}}": p95("floworch_steps_queue_delay_milliseconds", "queue", _OF_QUEUE)},
            ),
            Panel(
                "Messages",
                "ops",
                {
                    "{{queue}}": rate("floworch_dispatch_published_total", "queue", _OF_QUEUE),
                    "{{queue}} again": rate("floworch_dispatch_republished_total", "queue", _OF_QUEUE),
                    "{{queue}} for nothing": rate("floworch_dispatch_duplicates_suppressed_total", "queue", _OF_QUEUE),
                },
            ),
            Panel("Workers of a queue", "short", {"{{queue}}": gauge("floworch_queue_workers", "queue", _OF_QUEUE)}),
        ],
        "Workers": [
            Panel(
                "Slots",
                "short",
                {
                    "{{queues}}": gauge("floworch_workers_slots", "queues"),
                    "{{queues}} taken": gauge("floworch_workers_slots_busy", "queues"),
                },
            ),
            Panel(
                "Live",
                "short",
                {
                    "{{queues}}": gauge("floworch_workers_live", "queues"),
                    "{{queues}} deaf": gauge("floworch_workers_deaf", "queues"),
                },
            ),
            Panel(
                "Claims",
                "short",
                {
                    "held on {{queue}}": gauge("floworch_lease_active_count", "queue"),
                    "run out, a second": rate("floworch_lease_expired_total"),
                    "results refused, a second: {{reason}}": rate("floworch_completions_refused_total", "reason"),
                },
            ),
            Panel(
                "Processor",
                "percentunit",
                {"{{job}} {{role}}": rate("floworch_process_cpu_seconds_total", "job, role")},
            ),
            Panel("Memory", "bytes", {"{{job}} {{role}}": "sum by (job, role) (floworch_process_memory_bytes)"}),
            Panel("Pool children lost", "ops", {"": rate("floworch_workers_children_lost_total")}),
        ],
        "Keepers": [
            Panel(
                "One of twenty passes takes longer",
                "s",
                {"{{loop}}": p95("floworch_keeper_pass_seconds", "loop")},
                width=12,
            ),
            Panel(
                "Since a pass ended well",
                "s",
                {"{{loop}}": "time() - max by (loop) (floworch_keeper_last_pass_seconds)"},
                width=12,
            ),
        ],
    },
    {"queue": "label_values(floworch_queue_depth, queue)"},
)

LEDGER: Final = Dashboard(
    "floworch-ledger",
    "Flows: ledger and database",
    {
        "Room": [
            Panel(
                "Database",
                "bytes",
                {"size": gauge("floworch_database_size_bytes"), "disk": gauge("floworch_database_size_limit_bytes")},
            ),
            Panel("Largest tables", "bytes", {"{{table}}": top(gauge("floworch_ledger_bytes", "table"))}),
            Panel("Rows, as estimated", "short", {"{{table}}": top(gauge("floworch_ledger_rows", "table"))}),
            Panel(
                "Retention",
                "s",
                {
                    "oldest ended run": gauge("floworch_ledger_oldest_ended_seconds"),
                    "removed after": gauge("floworch_ledger_retention_seconds"),
                },
            ),
            Panel(
                "Connections",
                "short",
                {
                    "used": gauge("floworch_database_connections_used"),
                    "allowed": gauge("floworch_database_connections_limit"),
                },
            ),
            Panel(
                "Connections of our processes",
                "short",
                {"{{job}} {{state}}": "sum by (job, state) (floworch_database_pool)"},
            ),
        ],
        "Statements": [
            Panel(
                "Slow statements",
                "ops",
                {"{{statement}}": rate("floworch_database_slow_statements_total", "statement")},
                width=12,
            ),
            Panel(
                "Notifications that wait",
                "s",
                {"oldest": gauge("floworch_notifications_oldest_pending_seconds")},
                width=12,
            ),
        ],
        "Telemetry": [
            Panel("Age of the last look at the ledger", "s", {"": gauge("floworch_exporter_age_seconds")}),
            Panel(
                "Sets of labels without room",
                "ops",
                {"{{metric}}": rate("floworch_metrics_dropped_series_total", "metric")},
            ),
            Panel(
                "Since a backup, and since one was restored on trial",
                "s",
                {"backup": gauge("floworch_backup_age_seconds"), "drill": gauge("floworch_drill_age_seconds")},
            ),
            Panel("Reports of pool children lost", "ops", {"": rate("floworch_metrics_dropped_reports_total")}),
        ],
    },
)
DASHBOARDS: Final = (OVERVIEW, FLOW, WORKERS, LEDGER)


def built(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["floworch"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), *(_variable(*one) for one in dashboard.variables.items())]},
        "links": [{"type": "dashboards", "tags": ["floworch"], "title": "Flows", "keepTime": True}],
        "panels": list(_panels(dashboard)),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(dashboard: Dashboard) -> Sequence[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in dashboard.rows.items():
        made.append(
            {"type": "row", "title": title, "id": len(made) + 1, "gridPos": _place(0, y, _WIDTH, 1), "panels": []}
        )
        y, x = y + 1, 0
        height = _HEIGHT // 2 if all(panel.stat for panel in panels) else _HEIGHT
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + height
            made.append({**_panel(panel), "id": len(made) + 1, "gridPos": _place(x, y, panel.width, height)})
            x += panel.width
        y += height
    return made


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + n), "expr": query, "legendFormat": legend or panel.title, "datasource": _SOURCE}
        for n, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def texts() -> dict[str, str]:
    """By the name of the file."""
    return {f"{one.uid}.json": json.dumps(built(one), indent=1, ensure_ascii=False) + "\n" for one in DASHBOARDS}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
