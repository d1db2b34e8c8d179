-- name: gauge_runs
-- Does:  counts open runs by flow and by what people see of them, and says how old the oldest of them are. Which of them wait is
--        found for all at once: `flow_parked` would be asked for each.
-- Index: ix_flow_runs_open, ix_flow_steps_ready, ix_flow_step_claims_live
WITH busy AS MATERIALIZED (
  SELECT run_id FROM flow_steps WHERE queued UNION SELECT run_id FROM flow_step_claims WHERE expires_at IS NOT NULL
)
SELECT r.flow, CASE WHEN r.status = 'running' AND busy.run_id IS NULL THEN 'waiting' ELSE r.status END AS status,
       count(*) AS runs, EXTRACT(epoch FROM (SELECT flow_now()) - min(r.created_at))::float8 AS oldest_s
  FROM flow_runs r LEFT JOIN busy ON busy.run_id = r.id
 WHERE r.ended_at IS NULL
 GROUP BY 1, 2;

-- name: gauge_queues
-- Does:  for each queue that has steps or live workers: steps that are ready, how many of them no live worker takes, how many run,
--        how many are due and were made ready by no keeper yet, how long the oldest ready one has waited; and the live workers.
-- In:    ttl (of workers)
-- Index: ix_flow_steps_ready, ix_flow_step_claims_live, ix_flow_steps_due
WITH live AS MATERIALIZED (
  SELECT handlers, queues FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s
), tasks AS (
  SELECT queue, task, count(*) AS n, min(ready_at) AS oldest FROM flow_steps WHERE queued GROUP BY queue, task
), ready AS (
  SELECT queue, sum(n) AS n, min(oldest) AS oldest,
         COALESCE(sum(n) FILTER (WHERE NOT EXISTS (SELECT FROM live w
                                                    WHERE task = ANY (w.handlers) AND queue = ANY (w.queues))), 0) AS unserved
    FROM tasks GROUP BY queue
), running AS (
  SELECT s.queue, count(*) AS n FROM flow_step_claims c JOIN flow_steps s USING (run_id, step_key)
   WHERE c.expires_at IS NOT NULL GROUP BY s.queue
), due AS (
  SELECT queue, count(*) AS n FROM flow_steps
   WHERE due_at <= (SELECT flow_now()) AND status = 'waiting' GROUP BY queue
), served AS (
  SELECT queue, count(*) AS n FROM live, unnest(queues) AS queue GROUP BY queue
)
SELECT queue, COALESCE(ready.n, 0)::bigint AS ready, COALESCE(ready.unserved, 0)::bigint AS unserved,
       COALESCE(running.n, 0) AS running, COALESCE(due.n, 0) AS due,
       COALESCE(EXTRACT(epoch FROM flow_now() - ready.oldest), 0)::float8 AS oldest_s, COALESCE(served.n, 0) AS workers
  FROM ready FULL JOIN running USING (queue) FULL JOIN due USING (queue) FULL JOIN served USING (queue);

-- name: gauge_workers
-- Does:  live workers by the set of queues that they take from (keepers: none): how many, their slots, how many of these are
--        taken, and how many workers take no messages.
-- In:    ttl (of workers)
-- Index: ix_flow_step_claims_live
WITH held AS (
  SELECT substring(owner FROM '^(.*)/') AS id, count(*) AS n FROM flow_step_claims WHERE expires_at IS NOT NULL GROUP BY 1
)
SELECT array_to_string(ARRAY(SELECT unnest(w.queues) AS queue ORDER BY queue), ',') AS queues, count(*) AS live,
       sum(w.concurrency)::bigint AS slots, COALESCE(sum(held.n), 0)::bigint AS busy,
       count(*) FILTER (WHERE w.pool <> 'keeper' AND COALESCE(w.consumed_at, w.started_at) < flow_now() - 2 * %(ttl)s) AS deaf
  FROM flow_workers w LEFT JOIN held ON held.id = w.id
 WHERE w.seen_at > flow_now() - %(ttl)s
 GROUP BY 1;

-- name: gauge_schedules
-- Does:  how late each schedule is that fires; 0: its next tick lies ahead.
SELECT s.flow, s.trigger_key, GREATEST(EXTRACT(epoch FROM (SELECT flow_now()) - s.due_at), 0)::float8 AS late_s
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
 WHERE s.active AND s.paused_at IS NULL AND s.due_at IS NOT NULL AND d.enabled;

-- name: gauge_sessions
-- Does:  how many sessions the server has, of all its databases, and how many it lets in that are no superuser's.
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS connections,
       current_setting('max_connections')::int - /*+ reserved_sessions */ AS most;

-- part: reserved_sessions
-- Does:  how many sessions are kept for superusers, and for a role that is named for it from 16 on.
(current_setting('superuser_reserved_connections')::int + COALESCE(current_setting('reserved_connections', TRUE)::int, 0))

-- name: gauge_database
SELECT pg_database_size(current_database());

-- name: gauge_sizes
-- Does:  how large each of these tables is with its indexes; rows as they were estimated last.
-- In:    tables
SELECT c.relname AS "table", GREATEST(c.reltuples, 0)::float8 AS rows, pg_total_relation_size(c.oid) AS bytes
  FROM unnest(%(tables)s::text[]) AS t(name) JOIN pg_class c ON c.oid = to_regclass(t.name);

-- name: gauge_oldest_ended
-- Does:  how long ago the oldest run ended that retention may remove: ids begin with the time of the start. A run whose key still
--        answers is not one of them.
-- Out:   one row; null: there is none
-- Index: primary keys
SELECT EXTRACT(epoch FROM flow_now() - (
  SELECT r.ended_at FROM flow_runs r
   WHERE r.ended_at IS NOT NULL AND r.parent_told
     AND NOT EXISTS (SELECT FROM flow_idempotency_keys k
                      WHERE k.flow = r.flow AND k.key = r.trigger_key AND k.run_id = r.id AND k.expires_at >= flow_now())
   ORDER BY r.id LIMIT 1))::float8 AS age_s;

-- name: gauge_notifications
-- Does:  how many notifications are not delivered yet, and how long ago the oldest of them was made.
-- Index: ix_flow_notifications_late
SELECT count(*) AS pending, COALESCE(EXTRACT(epoch FROM flow_now() - min(created_at)), 0)::float8 AS oldest_s
  FROM flow_notifications WHERE state = 'pending';

-- name: gauge_evidence
-- Does:  how long ago each of these was last done well. No row: never.
-- In:    kinds
-- Index: ix_flow_evidence_kind
SELECT kind, EXTRACT(epoch FROM flow_now() - max(at))::float8 AS age_s
  FROM flow_evidence WHERE ok AND kind = ANY (%(kinds)s) GROUP BY kind;
