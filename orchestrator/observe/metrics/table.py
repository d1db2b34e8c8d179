"""The table of metrics: from it the instruments are made, and the page `docs/metrics.md`.

Never a label: a run, a worker, a host, a process id, a tag, a tenant, the text of an error. Each would grow for ever.
"""

from typing import Final

from orchestrator.observe.metrics.metric import Kind, Label, Metric, Source

_FLOW: Final = Label("flow", "name of the flow", open=True)
_STEP_TYPE: Final = Label("step_type", "the step's function, by its name in the flow", open=True)
_QUEUE: Final = Label("queue", "queue that the step is sent to", open=True)
_QUEUES: Final = Label("queues", "what a group of workers serves: its queues, sorted, with commas", open=True)
_TRIGGER: Final = Label("trigger", "name of the schedule", open=True)
_TRIGGER_TYPE: Final = Label("trigger_type", "what started the run: manual, schedule, webhook, …")
_STATUS: Final = Label("status", "how it ended, or where it stands")
_STATE: Final = Label("state", "where it stands")
_REASON: Final = Label("reason", "why, as a word of ours; of an error that is refused, its code")
_OUTCOME: Final = Label("outcome", "what came of it")
_BY: Final = Label("by", "who decided: beat, watchdog, queued or operator")
_LOOP: Final = Label("loop", "duty of the keeper")
_SCHEME: Final = Label("scheme", "how the webhook's requests are signed")
_ROUTE: Final = Label("route", "route of the API, by its operationId; none: there is no such path", open=True)
_METHOD: Final = Label("method", "method of HTTP")
_CLASS: Final = Label("status_class", "2xx, 3xx, 4xx or 5xx")
_STATEMENT: Final = Label("statement", "name of the SQL statement, as in the source", open=True)
_TABLE: Final = Label("table", "table of the ledger")
_ACTION: Final = Label("action", "what an operator did: cancel, retry, skip, mark, rerun, …")
_ROLE: Final = Label("role", "main: the process that answers; children: all below it, together")
_MODE: Final = Label("mode", "user or system")
_METRIC: Final = Label("metric", "name of the metric, as it is in Prometheus")
_GROUP: Final = Label("group", "name of the group of workers", open=True)

_WORKER: Final = (Source.WORKER,)
_KEEPER: Final = (Source.KEEPER,)
_WORKER_KEEPER: Final = (Source.WORKER, Source.KEEPER)
_API: Final = (Source.API,)
_EXPORTER: Final = (Source.EXPORTER,)
_ENGINE: Final = (Source.WORKER, Source.KEEPER, Source.API)
_ALL: Final = tuple(Source)

_STEP_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 600_000)
_RUN_S: Final = (0.1, 0.5, 2, 10, 30, 120, 600, 1_800, 7_200, 28_800, 86_400)
_REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_PASS_S: Final = (0.005, 0.025, 0.1, 0.5, 2, 10, 60)
_WAIT_S: Final = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800)
_BODY: Final = (1_024, 8_192, 65_536, 262_144, 1_048_576)
_ASKED: Final = (1, 2, 5, 10, 20, 50, 100)


def _counter(name: str, meaning: str, sources: tuple[Source, ...], *labels: Label, unit: str = "") -> Metric:
    return Metric(f"floworch.{name}", Kind.COUNTER, meaning, sources, labels, unit)


def _gauge(name: str, meaning: str, sources: tuple[Source, ...], *labels: Label, unit: str = "") -> Metric:
    return Metric(f"floworch.{name}", Kind.GAUGE, meaning, sources, labels, unit)


def _histogram(
    name: str, meaning: str, sources: tuple[Source, ...], *labels: Label, unit: str, buckets: tuple[float, ...]
) -> Metric:
    return Metric(f"floworch.{name}", Kind.HISTOGRAM, meaning, sources, labels, unit, buckets)


# Runs
RUNS_STARTED: Final = _counter("runs.started", "runs that were accepted", _ENGINE, _FLOW, _TRIGGER_TYPE)
RUNS_REFUSED: Final = _counter("runs.refused", "starts that were refused", _ENGINE, _REASON)
RUNS_COMPLETED: Final = _counter("runs.completed", "runs that ended", _ENGINE, _FLOW, _STATUS)
RUNS_DURATION: Final = _histogram(
    "runs.duration", "from acceptance to end", _ENGINE, _FLOW, _STATUS, unit="s", buckets=_RUN_S
)
RUNS_ACTIVE: Final = _gauge("runs.active", "runs that have not ended", _EXPORTER, _FLOW, _STATUS)
RUNS_OLDEST_ACTIVE: Final = _gauge(
    "runs.oldest_active", "age of the oldest run that has not ended", _EXPORTER, _FLOW, _STATUS, unit="s"
)

# Steps
STEPS_DURATION: Final = _histogram(
    "steps.duration",
    "one attempt, from its claim to its recorded outcome; status is ok, failed, timed_out or cancelled",
    _WORKER,
    *(_FLOW, _STEP_TYPE, _STATUS),
    unit="ms",
    buckets=_STEP_MS,
)
STEPS_QUEUE_DELAY: Final = _histogram(
    "steps.queue_delay", "from ready to claimed", _WORKER, _QUEUE, unit="ms", buckets=_STEP_MS
)
STEPS_RETRIES: Final = _counter(
    "steps.retries", "attempts after which their step is tried again", _WORKER_KEEPER, _FLOW, _STEP_TYPE, _REASON
)
STEPS_SKIPPED: Final = _counter("steps.skipped", "steps that can never run", _ENGINE, _FLOW, _STEP_TYPE)
STEPS_POLL_ATTEMPTS: Final = _histogram(
    "steps.poll_attempts",
    "how often a step that polls was asked until it was ready",
    _WORKER,
    *(_FLOW, _STEP_TYPE),
    unit="",
    buckets=_ASKED,
)
STEPS_CRASHED: Final = _counter(
    "steps.crashed",
    "attempts whose process died or fell silent: counted by the worker of a dead pool child, or by the keeper",
    _WORKER_KEEPER,
    *(_FLOW, _STEP_TYPE),
)

# Messages, claims, results
DISPATCH_PUBLISHED: Final = _counter("dispatch.published", "messages sent for the first time", _ENGINE, _QUEUE)
DISPATCH_REPUBLISHED: Final = _counter(
    "dispatch.republished", "messages sent again, because an earlier one may be lost", _ENGINE, _QUEUE
)
DISPATCH_DUPLICATES_SUPPRESSED: Final = _counter(
    "dispatch.duplicates_suppressed", "messages that found nothing to claim", _WORKER, _QUEUE
)
COMPLETIONS_REFUSED: Final = _counter(
    "completions.refused", "results of attempts that had lost their claim: they were dropped", _WORKER, _REASON
)
LEASE_ACTIVE_COUNT: Final = _gauge("lease.active_count", "claims that are held", _EXPORTER, _QUEUE)
LEASE_EXPIRED: Final = _counter("lease.expired", "claims that ran out, and were taken back", _KEEPER)

# Queues and workers
QUEUE_DEPTH: Final = _gauge(
    "queue.depth", "steps: ready, running, or due and not made ready by a keeper yet", _EXPORTER, _QUEUE, _STATE
)
QUEUE_UNSERVED: Final = _gauge("queue.unserved", "ready steps that no live worker takes", _EXPORTER, _QUEUE)
QUEUE_OLDEST_READY: Final = _gauge(
    "queue.oldest_ready", "how long the oldest ready step has waited", _EXPORTER, _QUEUE, unit="s"
)
QUEUE_WORKERS: Final = _gauge("queue.workers", "live workers that serve the queue", _EXPORTER, _QUEUE)
WORKERS_LIVE: Final = _gauge(
    "workers.live", "workers whose heartbeat is fresh; keepers are those without queues", _EXPORTER, _QUEUES
)
WORKERS_SLOTS: Final = _gauge("workers.slots", "steps that they can run at a time", _EXPORTER, _QUEUES)
WORKERS_SLOTS_BUSY: Final = _gauge("workers.slots_busy", "slots that run a step", _EXPORTER, _QUEUES)
WORKERS_DEAF: Final = _gauge(
    "workers.deaf", "live workers whose probe does not come back: they take no messages", _EXPORTER, _QUEUES
)
WORKERS_CHILDREN_LOST: Final = _counter(
    "workers.children_lost", "pool children that died of themselves or were killed", _WORKER
)
SCALING_REPLICAS: Final = _gauge(
    "scaling.replicas", "processes that the group needs, as `orchestrator scaling` says", _EXPORTER, _GROUP
)

# Time
CRON_LAG: Final = _gauge("cron.lag", "how late its tick is; 0: it lies ahead", _EXPORTER, _FLOW, _TRIGGER, unit="s")
CRON_TICKS: Final = _counter("cron.ticks", "ticks that were decided", _ENGINE, _OUTCOME, _BY)
BEATS_LIVE: Final = _gauge("beats.live", "1 while a beat holds the lock of the schedules", _EXPORTER)
KEEPER_PASS: Final = _histogram("keeper.pass", "one pass of a duty", _WORKER_KEEPER, _LOOP, unit="s", buckets=_PASS_S)
KEEPER_LAST_PASS: Final = _gauge(
    "keeper.last_pass",
    "when a pass last ended well, in seconds since 1970; of a duty of the cluster, the leader's",
    _WORKER_KEEPER,
    _LOOP,
    unit="s",
)

# Signals, webhooks, notifications
SIGNALS_WAIT: Final = _histogram(
    "signals.wait",
    "from the opening of a wait to the signal that ended it",
    _ENGINE,
    _FLOW,
    unit="s",
    buckets=_WAIT_S,
)
WEBHOOKS_RECEIVED: Final = _counter("webhooks.received", "requests to webhooks", _API, _SCHEME)
WEBHOOKS_REJECTED: Final = _counter("webhooks.rejected", "those that were turned away", _API, _SCHEME, _REASON)
WEBHOOKS_BODY_BYTES: Final = _histogram(
    "webhooks.body_bytes", "size of their bodies", _API, _SCHEME, unit="By", buckets=_BODY
)
WEBHOOKS_PROCESSING: Final = _histogram(
    "webhooks.processing", "until they were answered", _API, _SCHEME, unit="s", buckets=_REQUEST_S
)
NOTIFICATIONS_SENT: Final = _counter(
    "notifications.sent", "attempts to send a notification: sent, later or given_up", _KEEPER, _OUTCOME
)
NOTIFICATIONS_PENDING: Final = _gauge("notifications.pending", "notifications that are not sent yet", _EXPORTER)
NOTIFICATIONS_OLDEST_PENDING: Final = _gauge(
    "notifications.oldest_pending", "age of the oldest of them", _EXPORTER, unit="s"
)

# The API, and those who use it
API_REQUESTS: Final = _histogram(
    "api.requests", "until a request was answered", _API, _ROUTE, _METHOD, _CLASS, unit="s", buckets=_REQUEST_S
)
OPERATORS_ACTIONS: Final = _counter(
    "operators.actions", "what people did to runs, steps and schedules", _ENGINE, _ACTION
)

# The database
DATABASE_POOL: Final = _gauge("database.pool", "connections of this process: in_use, or size", _ENGINE, _STATE)
DATABASE_SLOW_STATEMENTS: Final = _counter(
    "database.slow_statements", "statements slower than the limit for slow ones; each is logged", _ENGINE, _STATEMENT
)
DATABASE_CONNECTIONS_USED: Final = _gauge("database.connections_used", "connections that the server has", _EXPORTER)
DATABASE_CONNECTIONS_LIMIT: Final = _gauge("database.connections_limit", "connections that it allows", _EXPORTER)
DATABASE_SIZE: Final = _gauge("database.size", "size of the database", _EXPORTER, unit="By")
DATABASE_SIZE_LIMIT: Final = _gauge(
    "database.size_limit", "what the disk has room for, where it was said", _EXPORTER, unit="By"
)
LEDGER_ROWS: Final = _gauge("ledger.rows", "rows, as PostgreSQL estimates them", _EXPORTER, _TABLE)
LEDGER_BYTES: Final = _gauge("ledger.bytes", "size with its indexes", _EXPORTER, _TABLE, unit="By")
LEDGER_OLDEST_ENDED: Final = _gauge("ledger.oldest_ended", "age of the oldest run that ended", _EXPORTER, unit="s")
LEDGER_RETENTION: Final = _gauge(
    "ledger.retention", "age at which runs that ended are removed; without it, they are kept", _EXPORTER, unit="s"
)
BACKUP_AGE: Final = _gauge("backup.age", "since the last backup that was recorded", _EXPORTER, unit="s")
DRILL_AGE: Final = _gauge("drill.age", "since a backup was last restored on trial, and well", _EXPORTER, unit="s")

# The processes, and the metrics themselves
PROCESS_CPU: Final = _counter("process.cpu", "time on a processor", _ALL, _ROLE, _MODE, unit="s")
PROCESS_MEMORY: Final = _gauge("process.memory", "resident memory", _ALL, _ROLE, unit="By")
PROCESS_CHILDREN: Final = _gauge("process.children", "processes below the main one", _ALL)
EXPORTER_UP: Final = _gauge("exporter.up", "1 when the last look at the ledger went well", _EXPORTER)
EXPORTER_AGE: Final = _gauge("exporter.age", "since the last look that went well", _EXPORTER, unit="s")
METRICS_DROPPED_SERIES: Final = _counter(
    "metrics.dropped_series", "values that were counted as `other`: there was no room for their labels", _ALL, _METRIC
)
METRICS_DROPPED_REPORTS: Final = _counter(
    "metrics.dropped_reports", "reports of pool children that did not reach the main process", _WORKER
)

METRICS: Final = tuple(one for one in globals().values() if isinstance(one, Metric))
"""All of them, in the order in which they stand here."""
