-- name: scaling_load
-- Does:  what the workers of these queues have to do: what runs, what is ready, what is due soon of what was tried before,
--        and how long attempts took that ended lately.
-- In:    queues, delay (how soon), most (ready steps are counted up to this), window (attempts that are looked at, of the
--        newest runs)
-- Out:   running, ready, due, mean_s (null: none has ended)
-- Time:  flow_now()        Index: ix_flow_step_claims_live, ix_flow_steps_ready, ix_flow_steps_due, pk_flow_step_attempts
WITH running AS (
  SELECT count(*) AS n
    FROM flow_step_claims c,
         LATERAL (SELECT queue FROM flow_steps WHERE run_id = c.run_id AND step_key = c.step_key OFFSET 0) AS s
   WHERE c.expires_at IS NOT NULL AND s.queue = ANY (%(queues)s)
), ready AS (
  SELECT count(*) AS n
    FROM (SELECT FROM flow_steps WHERE queued AND queue = ANY (%(queues)s) LIMIT %(most)s::bigint) AS counted
), due AS (
  SELECT count(*) AS n
    FROM (SELECT FROM flow_steps WHERE due_at <= (SELECT flow_now()) + %(delay)s AND status = 'waiting'
             AND queue = ANY (%(queues)s) LIMIT %(most)s::bigint) AS counted
), ended AS (
  SELECT EXTRACT(epoch FROM avg(a.ended_at - a.started_at))::float AS mean_s
    FROM (SELECT run_id, step_key, status, started_at, ended_at FROM flow_step_attempts
           ORDER BY run_id DESC, step_key DESC, attempt DESC LIMIT %(window)s) AS a,
         LATERAL (SELECT queue FROM flow_steps WHERE run_id = a.run_id AND step_key = a.step_key OFFSET 0) AS s
   WHERE a.ended_at IS NOT NULL AND a.status IN ('succeeded', 'failed', 'timed_out', 'polled') AND s.queue = ANY (%(queues)s)
)
SELECT running.n AS running, ready.n AS ready, due.n AS due, ended.mean_s
  FROM running, ready, due, ended;

-- name: scaling_soon
-- Does:  what opens steps soon: waits that are over, runs that begin, schedules that fire. Which steps, the manifest knows.
-- In:    delay (how soon), most (of each are looked at)
-- Out:   manifest_hash, step_key (that of the first item, inside of loops; null: a run begins), n
-- Time:  flow_now()        Index: ix_flow_steps_wake, ix_flow_run_controls_start, ix_flow_schedule_states_due
SELECT r.manifest_hash, regexp_replace(s.step_key, '\.\d+(?=\.|$)', '.0', 'g') AS step_key, count(*) AS n
  FROM (SELECT run_id, step_key FROM flow_steps WHERE wake_at <= (SELECT flow_now()) + %(delay)s LIMIT %(most)s::bigint) AS s,
       LATERAL (SELECT manifest_hash FROM flow_runs WHERE id = s.run_id OFFSET 0) AS r
 GROUP BY 1, 2
UNION ALL
SELECT r.manifest_hash, NULL, count(*)
  FROM (SELECT run_id FROM flow_run_controls
         WHERE NOT closed AND start_at <= (SELECT flow_now()) + %(delay)s LIMIT %(most)s::bigint) AS c,
       LATERAL (SELECT manifest_hash FROM flow_runs WHERE id = c.run_id OFFSET 0) AS r
 GROUP BY 1
UNION ALL
SELECT d.manifest_hash, NULL, count(*)
  FROM (SELECT flow FROM flow_schedule_states
         WHERE active AND paused_at IS NULL AND due_at <= (SELECT flow_now()) + %(delay)s LIMIT %(most)s::bigint) AS t,
       LATERAL (SELECT manifest_hash FROM flow_definitions WHERE name = t.flow AND enabled OFFSET 0) AS d
 GROUP BY 1;
