-- part: open_runs
-- The open runs among the last 100 that a schedule started, backfills left out; newest first.
SELECT t.run_id, t.scheduled_at
  FROM (SELECT run_id, scheduled_at FROM flow_schedule_ticks
         WHERE flow = s.flow AND trigger_key = s.trigger_key AND run_id IS NOT NULL AND backfill_id IS NULL
         ORDER BY scheduled_at DESC LIMIT 100) AS t
 WHERE (SELECT r.ended_at IS NULL FROM flow_runs r WHERE r.id = t.run_id)

-- name: hold_undecided
-- Does:  holds schedules whose cursor is where the caller read it, unless somebody else does.
-- In:    flows, keys, cursors, versions (arrays: one element of each for a schedule)
-- Out:   those that are held; the others were decided, changed, or are held by somebody else
-- Locks: the schedules, in any order: it waits for none
SELECT s.flow, s.trigger_key
  FROM unnest(%(flows)s::text[], %(keys)s::text[], %(cursors)s::timestamptz[], %(versions)s::bigint[])
         AS u(flow, trigger_key, cursor, version)
  JOIN flow_schedule_states s USING (flow, trigger_key)
 WHERE s.active AND s.paused_at IS NULL AND s.next_tick_at = u.cursor AND s.version = u.version
   FOR NO KEY UPDATE OF s SKIP LOCKED;

-- name: hold_schedule
-- Does:  waits for a schedule and holds it. What the caller read of it before is old.
-- Locks: the schedule
SELECT TRUE AS held FROM flow_schedule_states WHERE flow = %(flow)s AND trigger_key = %(key)s FOR NO KEY UPDATE;

-- name: hold_free_schedule
-- Does:  holds a schedule of the current manifest, unless somebody else does.
-- Locks: the schedule
SELECT TRUE AS held FROM flow_schedule_states
 WHERE flow = %(flow)s AND trigger_key = %(key)s AND active FOR NO KEY UPDATE SKIP LOCKED;

-- name: hold_schedules_of
-- Does:  waits for every schedule of a flow and holds them.
-- Locks: the schedules, in the order of their keys
SELECT TRUE AS held FROM flow_schedule_states WHERE flow = %(flow)s ORDER BY trigger_key FOR NO KEY UPDATE;

-- name: open_runs
-- Does:  the open runs of schedules, the newest first, and whether a tick is queued behind one.
-- In:    flows, keys
-- Out:   a row per run; one with a null run for a schedule without any
SELECT s.flow, s.trigger_key, t.run_id,
       EXISTS (SELECT FROM flow_schedule_ticks q
                WHERE q.flow = s.flow AND q.trigger_key = s.trigger_key AND q.outcome = 'queued') AS queued
  FROM unnest(%(flows)s::text[], %(keys)s::text[]) AS s(flow, trigger_key) LEFT JOIN LATERAL (/*+ open_runs */) AS t ON TRUE
 ORDER BY t.scheduled_at DESC;

-- name: decide
-- Does:  records what became of due ticks, and moves the cursors. A tick that has a row already (a backfill was first) is not
--        counted and not in the answer. A tick that is queued takes the place of an older one.
-- In:    by, decisions (array of JSON, one per schedule: flow, trigger_key, last, cursor, due, event_id,
--        ticks (array: at, due, outcome, count, run_id, waits_for)). Of an array PostgreSQL expects ten rows, of a JSON array a
--        hundred: then it reads all schedules from end to end.
-- Out:   flow, key and scheduled time of each tick that is recorded
-- Locks: the caller holds the schedules
WITH decision AS MATERIALIZED (
  SELECT d.*
    FROM unnest(%(decisions)s::json[]) AS u(decision),
         json_to_record(u.decision)
           AS d(flow text, trigger_key text, ticks json, last timestamptz, cursor timestamptz, due timestamptz, event_id uuid)
), tick AS (
  INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, count, run_id, waits_for, lag, by)
  SELECT d.flow, d.trigger_key, t.at, 'cron', t.outcome, t.count, t.run_id, t.waits_for,
         CASE WHEN t.outcome IN ('started', 'queued') THEN GREATEST(flow_now() - t.due, interval '0') END, %(by)s
    FROM decision d,
         json_to_recordset(d.ticks)
           AS t(at timestamptz, due timestamptz, outcome text, count int, run_id uuid, waits_for uuid)
  ON CONFLICT (flow, trigger_key, scheduled_at) DO NOTHING
  RETURNING flow, trigger_key, scheduled_at, outcome, count
), older AS (
  UPDATE flow_schedule_ticks q SET outcome = 'skipped', lag = NULL
    FROM (SELECT DISTINCT flow, trigger_key FROM tick WHERE outcome = 'queued') AS n
   WHERE q.flow = n.flow AND q.trigger_key = n.trigger_key AND q.outcome = 'queued'
  RETURNING q.flow, q.trigger_key
), counted AS (
  SELECT flow, trigger_key, count(*) FILTER (WHERE outcome = 'started') AS started,
         sum(count) FILTER (WHERE outcome = 'missed') AS missed, count(*) FILTER (WHERE outcome = 'skipped') AS skipped
    FROM (SELECT flow, trigger_key, outcome, count FROM tick
          UNION ALL
          SELECT flow, trigger_key, 'skipped', 1 FROM older) AS each
   GROUP BY flow, trigger_key
), state AS (
  UPDATE flow_schedule_states s
     SET next_tick_at = d.cursor, due_at = d.due, last_tick_at = GREATEST(s.last_tick_at, d.last),
         fired = s.fired + COALESCE(n.started, 0), missed = s.missed + COALESCE(n.missed, 0),
         skipped = s.skipped + COALESCE(n.skipped, 0),
         error = CASE WHEN n.started > 0 THEN NULL ELSE s.error END,
         error_at = CASE WHEN n.started > 0 THEN NULL ELSE s.error_at END
    FROM decision d LEFT JOIN counted n USING (flow, trigger_key)
   WHERE s.flow = d.flow AND s.trigger_key = d.trigger_key
), event AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT d.event_id, 'schedule.missed', json_build_object('actor', %(by)s::text, 'count', t.count, 'last', t.scheduled_at)
    FROM tick t JOIN decision d USING (flow, trigger_key) WHERE t.outcome = 'missed'
)
SELECT flow, trigger_key, scheduled_at FROM tick;

-- name: fail_ticks
-- Does:  ticks of this transaction could not start; the reason stays with the schedule, and is an event when it is a new one.
-- In:    flow, key, by, times, error (JSON), is_new (bool), event_id
-- Locks: the caller holds the schedule
WITH tick AS (
  UPDATE flow_schedule_ticks SET outcome = 'failed', run_id = NULL
   WHERE flow = %(flow)s AND trigger_key = %(key)s AND scheduled_at = ANY (%(times)s::timestamptz[])
  RETURNING scheduled_at
), state AS (
  UPDATE flow_schedule_states
     SET fired = fired - (SELECT count(*) FROM tick), error = %(error)s::json, error_at = flow_now()
   WHERE flow = %(flow)s AND trigger_key = %(key)s
)
INSERT INTO flow_events (run_id, type, facts)
SELECT %(event_id)s, 'schedule.failed', json_build_object('actor', %(by)s::text, 'error', %(error)s::json)
 WHERE %(is_new)s;

-- name: postpone
-- Does:  after a tick that could not even be decided: it is asked for again later, so that it does not hold up others.
-- In:    flow, key, cursor, error (JSON), delay
UPDATE flow_schedule_states SET due_at = flow_now() + %(delay)s, error = %(error)s::json, error_at = flow_now()
 WHERE flow = %(flow)s AND trigger_key = %(key)s AND active AND paused_at IS NULL AND next_tick_at = %(cursor)s;

-- name: count_doubles
-- Does:  counts ticks that came again, one of each schedule.
-- In:    flows, keys
-- Locks: the schedules, those of a flow in the order of their keys
WITH held AS MATERIALIZED (
  SELECT s.flow, s.trigger_key
    FROM unnest(%(flows)s::text[], %(keys)s::text[]) AS u(flow, trigger_key)
    JOIN flow_schedule_states s USING (flow, trigger_key)
   ORDER BY s.flow, s.trigger_key FOR NO KEY UPDATE OF s
)
UPDATE flow_schedule_states s SET doubles = s.doubles + 1
  FROM held WHERE s.flow = held.flow AND s.trigger_key = held.trigger_key;

-- ---- queued ticks and backfills ----

-- name: any_waits
-- Does:  whether a tick is queued or a backfill open.
-- Index: ix_flow_schedule_ticks_queued, ix_flow_schedule_backfills_open
SELECT EXISTS (SELECT FROM flow_schedule_ticks WHERE outcome = 'queued')
    OR EXISTS (SELECT FROM flow_schedule_backfills WHERE ended_at IS NULL) AS any_waits;

-- name: startable_ticks
-- Does:  a page of queued ticks whose run before has ended; in no order, so that a page of those that cannot start hides no other.
-- In:    page, format
-- Index: ix_flow_schedule_ticks_queued
SELECT t.flow, t.trigger_key, t.scheduled_at
  FROM flow_schedule_ticks t
 WHERE t.outcome = 'queued'
   AND (SELECT r.ended_at IS NULL FROM flow_runs r WHERE r.id = t.waits_for) IS NOT TRUE
   AND (SELECT d.enabled AND /*+ read_here */ FROM flow_definitions d WHERE d.name = t.flow)
   AND (SELECT s.active AND s.paused_at IS NULL FROM flow_schedule_states s WHERE s.flow = t.flow AND s.trigger_key = t.trigger_key)
 ORDER BY random() LIMIT %(page)s;

-- name: start_queued
-- Does:  a queued tick starts.
-- In:    flow, key, at, run_id
-- Out:   a row; none: it is not queued any more
-- Locks: the caller holds the schedule
WITH tick AS (
  UPDATE flow_schedule_ticks SET outcome = 'started', run_id = %(run_id)s
   WHERE flow = %(flow)s AND trigger_key = %(key)s AND scheduled_at = %(at)s AND outcome = 'queued'
  RETURNING scheduled_at
), state AS (
  UPDATE flow_schedule_states SET fired = fired + 1, error = NULL, error_at = NULL
   WHERE flow = %(flow)s AND trigger_key = %(key)s AND EXISTS (SELECT FROM tick)
)
SELECT scheduled_at FROM tick;

-- name: wait_longer
-- Does:  a queued tick comes after another run than it was queued behind.
UPDATE flow_schedule_ticks SET waits_for = %(run_id)s
 WHERE flow = %(flow)s AND trigger_key = %(key)s AND scheduled_at = %(at)s AND outcome = 'queued';

-- name: open_backfills
-- Does:  a page of backfills that have room for a run, or have ended; in no order.
-- In:    page, format
-- Index: ix_flow_schedule_backfills_open
SELECT b.id, b.flow, b.trigger_key
  FROM flow_schedule_backfills b
 WHERE b.ended_at IS NULL
   AND (cardinality(b.running) < b.max_parallel AND EXISTS (SELECT FROM flow_schedule_ticks t
                                                             WHERE t.backfill_id = b.id AND t.outcome = 'pending')
        OR cardinality(b.running) = 0
        OR EXISTS (SELECT FROM unnest(b.running) AS u(id)
                    WHERE (SELECT r.ended_at IS NULL FROM flow_runs r WHERE r.id = u.id) IS NOT TRUE))
   AND (SELECT d.enabled AND /*+ read_here */ FROM flow_definitions d WHERE d.name = b.flow)
 ORDER BY random() LIMIT %(page)s;

-- name: backfill
-- Does:  an open backfill, and those of its runs that are open.
-- Locks: the backfill; the caller holds its schedule
SELECT b.max_parallel, b.reverse,
       ARRAY(SELECT u.id FROM unnest(b.running) AS u(id)
              WHERE (SELECT r.ended_at IS NULL FROM flow_runs r WHERE r.id = u.id)) AS running
  FROM flow_schedule_backfills b WHERE b.id = %(id)s AND b.ended_at IS NULL FOR NO KEY UPDATE;

-- name: start_pending
-- Does:  the next ticks of a backfill start.
-- In:    id, reverse, run_ids (as many as may start), running (its open runs)
-- Out:   scheduled time and run id of each
-- Locks: the caller holds the schedule and the backfill
WITH next AS MATERIALIZED (
  SELECT flow, trigger_key, scheduled_at, row_number() OVER () AS n
    FROM ((SELECT flow, trigger_key, scheduled_at FROM flow_schedule_ticks
            WHERE backfill_id = %(id)s AND outcome = 'pending' AND NOT %(reverse)s
            ORDER BY scheduled_at LIMIT cardinality(%(run_ids)s::uuid[]))
          UNION ALL
          (SELECT flow, trigger_key, scheduled_at FROM flow_schedule_ticks
            WHERE backfill_id = %(id)s AND outcome = 'pending' AND %(reverse)s
            ORDER BY scheduled_at DESC LIMIT cardinality(%(run_ids)s::uuid[]))) AS t
), tick AS (
  UPDATE flow_schedule_ticks t SET outcome = 'started', run_id = (%(run_ids)s::uuid[])[next.n], decided_at = flow_now()
    FROM next WHERE t.flow = next.flow AND t.trigger_key = next.trigger_key AND t.scheduled_at = next.scheduled_at
  RETURNING t.flow, t.trigger_key, t.scheduled_at, t.run_id
), state AS (
  UPDATE flow_schedule_states s SET fired = fired + n.started
    FROM (SELECT flow, trigger_key, count(*) AS started FROM tick GROUP BY flow, trigger_key) AS n
   WHERE s.flow = n.flow AND s.trigger_key = n.trigger_key
), backfill AS (
  UPDATE flow_schedule_backfills
     SET running = %(running)s::uuid[] || ARRAY(SELECT run_id FROM tick),
         ended_at = CASE WHEN cardinality(%(running)s::uuid[]) = 0 AND NOT EXISTS (SELECT FROM next) THEN flow_now() END
   WHERE id = %(id)s
)
SELECT scheduled_at, run_id FROM tick;

-- name: add_backfill
-- In:    id, flow, key, since, until, max_parallel, reverse, by
INSERT INTO flow_schedule_backfills (id, flow, trigger_key, since, until, max_parallel, reverse, requested_by)
VALUES (%(id)s, %(flow)s, %(key)s, %(since)s, %(until)s, %(max_parallel)s, %(reverse)s, %(by)s);

-- name: add_pending
-- Does:  the times of a backfill. One that was missed, skipped, failed or cancelled is taken over.
-- In:    id, flow, key, by, times
-- Out:   the times that are the backfill's now
-- Locks: the caller holds the schedule
INSERT INTO flow_schedule_ticks AS t (flow, trigger_key, scheduled_at, kind, outcome, backfill_id, by)
SELECT %(flow)s, %(key)s, u.at, 'backfill', 'pending', %(id)s, %(by)s FROM unnest(%(times)s::timestamptz[]) AS u(at)
ON CONFLICT (flow, trigger_key, scheduled_at) DO UPDATE
   SET kind = 'backfill', outcome = 'pending', backfill_id = excluded.backfill_id, by = excluded.by, count = 1, lag = NULL,
       decided_at = flow_now()
 WHERE t.outcome IN ('missed', 'skipped', 'failed', 'cancelled')
RETURNING t.scheduled_at;

-- name: taken_ticks
-- Does:  times of a span that have a run, or will have one.
-- In:    flow, key, since, until
SELECT scheduled_at FROM flow_schedule_ticks
 WHERE flow = %(flow)s AND trigger_key = %(key)s AND scheduled_at >= %(since)s AND scheduled_at < %(until)s
   AND outcome IN ('started', 'queued', 'pending');

-- name: find_backfill
SELECT flow, trigger_key, ended_at FROM flow_schedule_backfills WHERE id = %(id)s;

-- name: end_backfill
-- Does:  no more of its ticks start.
-- In:    id, by
-- Out:   how many were taken back
-- Locks: the caller holds the schedule
WITH backfill AS (
  UPDATE flow_schedule_backfills SET ended_at = flow_now(), cancelled_by = %(by)s
   WHERE id = %(id)s AND ended_at IS NULL
  RETURNING id
), tick AS (
  UPDATE flow_schedule_ticks SET outcome = 'cancelled', decided_at = flow_now()
   WHERE backfill_id IN (SELECT id FROM backfill) AND outcome = 'pending'
  RETURNING scheduled_at
)
SELECT count(*) AS cancelled FROM tick;

-- name: backfills_of
-- Does:  the open backfills of a schedule.
-- Index: ix_flow_schedule_backfills_open
SELECT id FROM flow_schedule_backfills WHERE ended_at IS NULL AND flow = %(flow)s AND trigger_key = %(key)s ORDER BY id;

-- ---- changes ----

-- name: add_tick
-- Does:  records a run that an operator started, with the time of the command.
-- In:    flow, key, at, run_id, by
-- Out:   a row; none: the time is taken
WITH tick AS (
  INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, run_id, by)
  VALUES (%(flow)s, %(key)s, %(at)s, 'manual', 'started', %(run_id)s, 'operator')
  ON CONFLICT (flow, trigger_key, scheduled_at) DO NOTHING
  RETURNING scheduled_at
), state AS (
  UPDATE flow_schedule_states SET fired = fired + 1
   WHERE flow = %(flow)s AND trigger_key = %(key)s AND EXISTS (SELECT FROM tick)
)
SELECT scheduled_at FROM tick;

-- name: put_schedule
-- Does:  writes a schedule as registration, an operator or a switch leaves it.
-- In:    every column that they change
INSERT INTO flow_schedule_states AS s (flow, trigger_key, active, definition, expression, zone, overridden_at, overridden_by,
                                       paused_at, paused_by, pause_reason, next_tick_at, due_at, version)
VALUES (%(flow)s, %(key)s, %(active)s, %(definition)s::json, %(expression)s, %(zone)s, %(overridden_at)s, %(overridden_by)s,
        %(paused_at)s, %(paused_by)s, %(pause_reason)s, %(cursor)s, %(due)s, pg_current_xact_id()::text::bigint)
ON CONFLICT (flow, trigger_key) DO UPDATE
   SET active = excluded.active, definition = excluded.definition, expression = excluded.expression, zone = excluded.zone,
       overridden_at = excluded.overridden_at, overridden_by = excluded.overridden_by, paused_at = excluded.paused_at,
       paused_by = excluded.paused_by, pause_reason = excluded.pause_reason, next_tick_at = excluded.next_tick_at,
       due_at = excluded.due_at, version = excluded.version;

-- name: skip_queued
-- Does:  a schedule that stops starts nothing that is queued.
-- Locks: the caller holds the schedule
WITH tick AS (
  UPDATE flow_schedule_ticks SET outcome = 'skipped', lag = NULL
   WHERE flow = %(flow)s AND trigger_key = %(key)s AND outcome = 'queued'
  RETURNING scheduled_at
)
UPDATE flow_schedule_states SET skipped = skipped + (SELECT count(*) FROM tick)
 WHERE flow = %(flow)s AND trigger_key = %(key)s AND EXISTS (SELECT FROM tick);

