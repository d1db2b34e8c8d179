-- part: runs_dropped
-- Does:  all that belongs to the runs whose ids `page` has
events AS (DELETE FROM flow_events WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), logs AS (DELETE FROM flow_step_logs WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), outputs AS (DELETE FROM flow_outputs WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), attempts AS (DELETE FROM flow_step_attempts WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), claims AS (DELETE FROM flow_step_claims WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), dispatches AS (DELETE FROM flow_step_dispatches WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), controls AS (DELETE FROM flow_run_controls WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), ticks AS (DELETE FROM flow_schedule_ticks WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), waiters AS (DELETE FROM flow_signal_waiters WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), signals AS (DELETE FROM flow_signals WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), payloads AS (UPDATE flow_payloads SET removed_at = flow_now() WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), steps AS (DELETE FROM flow_steps WHERE run_id = ANY ((SELECT ids FROM page)::uuid[])
), runs AS (DELETE FROM flow_runs WHERE id = ANY ((SELECT ids FROM page)::uuid[]) RETURNING id)

-- name: drop_keys
-- Does:  removes a page of idempotency keys that expired. A start that takes one anew meanwhile keeps it.
-- In:    page
-- Out:   how many
-- Time:  flow_now()        Index: ix_flow_idempotency_keys_expires_at
WITH page AS MATERIALIZED (
  SELECT flow, key FROM flow_idempotency_keys
   WHERE expires_at < (SELECT flow_now()) ORDER BY expires_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM flow_idempotency_keys k USING page WHERE k.flow = page.flow AND k.key = page.key RETURNING k.key
)
SELECT count(*) AS removed FROM gone;

-- name: drop_runs
-- Does:  removes a page of runs that ended long ago, with all that belongs to them. An id begins with the time of its start, so
--        the oldest are found by key. A run whose idempotency key still answers stays until the key expires. The last run of the
--        page is the one that makes it reach `rows` steps: loops may have a hundred thousand. Of runs that stay there may be any
--        number: `window` of those behind `begin` are looked at.
-- In:    ttl, begin, window, page (runs), rows (steps)
-- Out:   how many, and `begin` for the runs behind these; null when there are none
-- Locks: the runs FOR UPDATE; those that somebody holds are left for the next time
-- Time:  flow_now()        Index: primary keys
WITH looked AS MATERIALIZED (
  SELECT id FROM flow_runs
   WHERE id > %(begin)s::uuid
     AND id < (SELECT (lpad(to_hex((EXTRACT(epoch FROM flow_now() - %(ttl)s) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid)
   ORDER BY id LIMIT %(window)s
), old AS MATERIALIZED (
  SELECT r.id
    FROM flow_runs r
   WHERE r.id = ANY (ARRAY(SELECT id FROM looked))
     AND r.ended_at < (SELECT flow_now() - %(ttl)s) AND r.parent_told
     AND NOT EXISTS (SELECT FROM flow_idempotency_keys k
                      WHERE k.flow = r.flow AND k.key = r.trigger_key AND k.run_id = r.id AND k.expires_at >= flow_now())
   ORDER BY r.id LIMIT %(page)s
     FOR UPDATE OF r SKIP LOCKED
), counted AS (
  SELECT id, (SELECT count(*) FROM flow_steps s WHERE s.run_id = old.id) AS steps FROM old
), page AS MATERIALIZED (
  SELECT ARRAY(SELECT id FROM (SELECT id, sum(steps) OVER (ORDER BY id) - steps AS before FROM counted) AS summed
                WHERE before < %(rows)s) AS ids
), /*+ runs_dropped */
SELECT count(*) AS removed, (SELECT id FROM looked ORDER BY id OFFSET %(window)s - 1 LIMIT 1) AS begin FROM runs;

-- name: drop_run
-- Does:  removes a run that ended, with all that belongs to it, its idempotency key too. Its flow keeps an event of that: who, which.
-- In:    run_id, event_id (of the flow's own events), by, reason (or null)
-- Out:   its id; none = no such run, or it is open, or the run that called it was not told of its end
-- Locks: the run FOR UPDATE
WITH run AS MATERIALIZED (
  SELECT id, flow, trigger_key FROM flow_runs WHERE id = %(run_id)s AND ended_at IS NOT NULL AND parent_told FOR UPDATE
), page AS MATERIALIZED (
  SELECT ARRAY(SELECT id FROM run) AS ids
), keys AS (
  DELETE FROM flow_idempotency_keys k USING run WHERE k.flow = run.flow AND k.key = run.trigger_key AND k.run_id = run.id
), own AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT %(event_id)s, 'run.deleted', json_strip_nulls(json_build_object('run', id, 'by', %(by)s::text, 'reason', %(reason)s::text)) FROM run
), /*+ runs_dropped */
SELECT id FROM runs;

-- name: drop_ticks
-- Does:  removes a page of ticks that started no run and were decided long ago; those with a run go with it. Backfills that ended
--        long ago go too.
-- In:    ttl, page
-- Out:   how many ticks
-- Time:  flow_now()        Index: ix_flow_schedule_ticks_decided_at
WITH page AS MATERIALIZED (
  SELECT flow, trigger_key, scheduled_at FROM flow_schedule_ticks
   WHERE decided_at < (SELECT flow_now() - %(ttl)s) AND run_id IS NULL AND outcome NOT IN ('queued', 'pending')
   ORDER BY decided_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), backfills AS (
  DELETE FROM flow_schedule_backfills WHERE ended_at < (SELECT flow_now() - %(ttl)s)
), gone AS (
  DELETE FROM flow_schedule_ticks t USING page
   WHERE t.flow = page.flow AND t.trigger_key = page.trigger_key AND t.scheduled_at = page.scheduled_at
  RETURNING t.flow
)
SELECT count(*) AS removed FROM gone;

-- name: schedule_names
SELECT flow, trigger_key FROM flow_schedule_states;

-- name: drop_own_events
-- Does:  removes a page of old events of schedules and flows; those of runs go with their run.
-- In:    ids, ttl, page
-- Out:   how many
-- Time:  flow_now()        Index: primary key
WITH page AS MATERIALIZED (
  SELECT e.run_id, e.id FROM flow_events e WHERE e.run_id = ANY (%(ids)s::uuid[]) AND e.at < (SELECT flow_now() - %(ttl)s) LIMIT %(page)s
), gone AS (
  DELETE FROM flow_events e USING page WHERE e.run_id = page.run_id AND e.id = page.id RETURNING e.run_id
)
SELECT count(*) AS removed FROM gone;

-- name: drop_stray_events
-- Does:  removes events of flows that earlier releases wrote under ids of no run, which were made like a run's: from the oldest id
--        on, one look-up for each id. Where runs as old as that are kept, for their keys or because they are open, a page of them
--        is looked at, and what lies behind them waits until they go.
-- In:    ttl, page (ids)
-- Out:   how many
-- Time:  flow_now()        Index: primary keys
WITH RECURSIVE edge AS MATERIALIZED (
  SELECT (lpad(to_hex((EXTRACT(epoch FROM flow_now() - %(ttl)s) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid AS id
), ids AS (
  (SELECT run_id, 1 AS n FROM flow_events ORDER BY run_id LIMIT 1)
  UNION ALL
  SELECT (SELECT e.run_id FROM flow_events e WHERE e.run_id > ids.run_id ORDER BY e.run_id LIMIT 1), n + 1
    FROM ids WHERE ids.run_id < (SELECT id FROM edge) AND n < %(page)s
), strays AS MATERIALIZED (
  SELECT run_id FROM ids
   WHERE run_id < (SELECT id FROM edge) AND NOT EXISTS (SELECT FROM flow_runs r WHERE r.id = ids.run_id)
), gone AS (
  DELETE FROM flow_events WHERE run_id = ANY (ARRAY(SELECT run_id FROM strays))
     AND type IN ('trigger.rejected_disabled', 'flow.enabled', 'flow.disabled') AND at < (SELECT flow_now() - %(ttl)s)
  RETURNING run_id
)
SELECT count(*) AS removed FROM gone;
