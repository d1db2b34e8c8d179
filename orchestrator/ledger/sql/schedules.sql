-- Every transaction that writes a schedule or one of its ticks holds the row in flow_schedule_states first; those of a flow in the
-- order of their keys, and after the row in flow_definitions where that is written too. So a process that holds a schedule knows
-- that its flow is neither switched nor registered meanwhile. `version` is the id of the transaction that changed a schedule.

-- part: schedule_columns
s.flow, s.trigger_key, s.active, s.definition, s.expression, s.zone, s.overridden_at, s.overridden_by, s.paused_at, s.paused_by,
s.pause_reason, s.last_tick_at, s.next_tick_at, s.due_at, s.version, s.fired, s.missed, s.skipped, s.doubles, s.error, s.error_at,
d.enabled AS flow_enabled, (SELECT flow_now()) AS now

-- part: read_here
-- Whether this release can read the current version of flow `d`: what only a newer one can is left to it.
NOT EXISTS (SELECT FROM flow_definition_versions v WHERE v.hash = d.manifest_hash AND v.format > %(format)s)

-- name: due_schedules
-- Does:  a page of schedules whose next tick is due, the longest first. Those of flows whose current version only a newer
--        release can read are left to it.
-- In:    late (only those due this long ago), format (the newest that this release reads), page
-- Time:  flow_now()        Index: ix_flow_schedule_states_due
SELECT /*+ schedule_columns */
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
 WHERE s.active AND s.paused_at IS NULL AND s.due_at IS NOT NULL AND s.due_at <= (SELECT flow_now() - %(late)s) AND d.enabled
   AND /*+ read_here */
 ORDER BY s.due_at LIMIT %(page)s;

-- name: left_to_newer
-- Does:  whether anything is due, queued or to be backfilled of a flow whose current version only a newer release can read.
-- In:    late, format
-- Time:  flow_now()        Index: ix_flow_schedule_states_due, ix_flow_schedule_ticks_queued, ix_flow_schedule_backfills_open
SELECT EXISTS (SELECT FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
                WHERE s.active AND s.paused_at IS NULL AND s.due_at IS NOT NULL AND s.due_at <= (SELECT flow_now() - %(late)s)
                  AND d.enabled AND NOT /*+ read_here */)
    OR EXISTS (SELECT FROM flow_schedule_ticks t JOIN flow_definitions d ON d.name = t.flow
                WHERE t.outcome = 'queued' AND d.enabled AND NOT /*+ read_here */)
    OR EXISTS (SELECT FROM flow_schedule_backfills b JOIN flow_definitions d ON d.name = b.flow
                WHERE b.ended_at IS NULL AND d.enabled AND NOT /*+ read_here */) AS found;

-- name: next_tick
-- Does:  seconds until the next tick is due; null when none is.
-- Index: ix_flow_schedule_states_due
SELECT EXTRACT(epoch FROM (SELECT due_at FROM flow_schedule_states
                            WHERE active AND paused_at IS NULL AND due_at IS NOT NULL ORDER BY due_at LIMIT 1) - flow_now())
       ::float8 AS seconds;

-- name: named_schedules
-- Does:  schedules by name; one that there is not is left out.
-- In:    flows, keys (each pair once), format
SELECT /*+ schedule_columns */, /*+ read_here */ AS readable
  FROM unnest(%(flows)s::text[], %(keys)s::text[]) AS u(flow, trigger_key)
  JOIN flow_schedule_states s USING (flow, trigger_key) JOIN flow_definitions d ON d.name = s.flow;

-- name: schedules_of
-- Does:  the schedules of a flow, in the order in which they are locked.
SELECT /*+ schedule_columns */
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
 WHERE s.flow = %(flow)s ORDER BY s.trigger_key;

-- name: shown_schedules
-- Does:  schedules with the number of their open runs, for people. What is open is few, and is looked for once: the last runs of
--        ten thousand schedules are a million.
-- In:    flow, key (null: all); a page: those behind `after_flow` and `after_key` (null: from the first), `most` of them (null: all)
-- Index: ix_flow_runs_open, ix_flow_schedule_ticks_run_id
WITH open AS MATERIALIZED (
  SELECT t.flow, t.trigger_key, count(*) AS runs
    FROM flow_runs r,
         LATERAL (SELECT flow, trigger_key FROM flow_schedule_ticks
                   WHERE run_id = r.id AND backfill_id IS NULL OFFSET 0) AS t
   WHERE r.ended_at IS NULL AND r.scheduled_for IS NOT NULL
   GROUP BY t.flow, t.trigger_key
)
SELECT /*+ schedule_columns */, COALESCE(o.runs, 0) AS open_runs
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
  LEFT JOIN open o ON o.flow = s.flow AND o.trigger_key = s.trigger_key
 WHERE s.flow = COALESCE(%(flow)s, s.flow) AND s.trigger_key = COALESCE(%(key)s, s.trigger_key)
   AND (%(after_flow)s::text IS NULL OR (s.flow, s.trigger_key) > (%(after_flow)s, %(after_key)s))
 ORDER BY s.flow, s.trigger_key LIMIT %(most)s;

-- name: schedule_keys
SELECT trigger_key FROM flow_schedule_states WHERE flow = %(flow)s ORDER BY trigger_key;

-- name: mirrored_schedules
-- Does:  what a ticker has to know of the schedules that changed from a version on.
-- In:    since
-- Index: ix_flow_schedule_states_version
SELECT s.flow, s.trigger_key, s.definition, s.expression, s.zone, s.next_tick_at, s.due_at, s.version,
       s.active AND s.paused_at IS NULL AND d.enabled AS enabled
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
 WHERE s.version >= %(since)s ORDER BY s.flow, s.trigger_key;

-- name: mirror_version
-- Does:  the transaction below which every one has ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS version;

-- name: shown_ticks
-- Does:  the last ticks of a schedule, newest first.
-- In:    flow, key, limit
SELECT t.flow, t.trigger_key, t.scheduled_at, t.kind, t.outcome, t.count, t.run_id, r.status AS run_status, t.decided_at, t.lag,
       t.by, t.backfill_id
  FROM (SELECT * FROM flow_schedule_ticks WHERE flow = %(flow)s AND trigger_key = %(key)s
         ORDER BY scheduled_at DESC LIMIT %(limit)s) AS t
  LEFT JOIN LATERAL (SELECT status FROM flow_runs WHERE id = t.run_id OFFSET 0) AS r ON TRUE
 ORDER BY t.scheduled_at DESC;

-- name: lag_of_all
-- Does:  how late the last 1000 ticks of all schedules were decided.
-- Index: ix_flow_schedule_ticks_decided_at
SELECT count(*) AS ticks, percentile_disc(0.5) WITHIN GROUP (ORDER BY lag) AS p50,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY lag) AS p99
  FROM (SELECT lag FROM flow_schedule_ticks WHERE lag IS NOT NULL ORDER BY decided_at DESC LIMIT 1000) AS t;

-- name: lag_of
-- Does:  how late the last 1000 ticks of a flow were decided, or of one schedule.
-- In:    flow, key (null: all)
SELECT count(*) AS ticks, percentile_disc(0.5) WITHIN GROUP (ORDER BY lag) AS p50,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY lag) AS p99
  FROM (SELECT t.lag
          FROM flow_schedule_states s,
               LATERAL (SELECT lag, decided_at FROM flow_schedule_ticks
                         WHERE flow = s.flow AND trigger_key = s.trigger_key AND lag IS NOT NULL
                         ORDER BY scheduled_at DESC LIMIT 1000) AS t
         WHERE s.flow = %(flow)s AND s.trigger_key = COALESCE(%(key)s, s.trigger_key)
         ORDER BY t.decided_at DESC LIMIT 1000) AS t;

-- ---- deciding ----

-- name: scheduled_for
-- Does:  the time a run's schedule meant.
SELECT scheduled_for FROM flow_runs WHERE id = %(run_id)s;
