-- Steps that wait for a time. The caller holds the run row.

-- part: waited
-- What the end of a wait consists of, beside its row: its output, which is null, and its event.
-- In:    of (waits that ended: run_id, step_key)
output AS (
  INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, step_key, 'null' FROM {of}
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
), event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.succeeded', step_key FROM {of}
)

-- name: park_wait
-- Does:  BLOCKED to WAITING until a time; SUCCEEDED at once when that is past.
-- In:    run_id, step_key, at (a time) or delay (an interval from now; the other is null), from_states
-- Out:   wake_at; null when it is over. No row: the step is not blocked
-- Time:  flow_now(), once      Index: primary key
WITH step AS (
  UPDATE flow_steps s
     SET status = CASE WHEN w.until > w.now THEN 'waiting' ELSE 'succeeded' END, started_at = w.now,
         wake_at = CASE WHEN w.until > w.now THEN w.until END, ended_at = CASE WHEN w.until <= w.now THEN w.now END
    FROM (SELECT now, COALESCE(%(at)s::timestamptz, now + %(delay)s::interval) AS until
            FROM (SELECT flow_now() AS now OFFSET 0) AS clock) AS w
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = ANY (%(from_states)s)
  RETURNING s.run_id, s.step_key, s.wake_at
), over AS (
  SELECT run_id, step_key FROM step WHERE wake_at IS NULL
), /*+ run_begun of=step */, parked AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT id, 'run.started', NULL, NULL FROM begun
  UNION ALL
  SELECT run_id, 'step.parked', step_key, json_build_object('until', wake_at) FROM step WHERE wake_at IS NOT NULL
), /*+ waited of=over */
SELECT wake_at FROM step;

-- name: end_wait
-- Does:  WAITING to SUCCEEDED, for a wait whose time has come.
-- In:    run_id, step_key
-- Out:   its key; no row: it is not waiting, or its time has not come
-- Time:  flow_now()        Index: primary key
WITH step AS (
  UPDATE flow_steps s
     SET status = 'succeeded', wake_at = NULL, ended_at = flow_now()
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = 'waiting' AND s.wake_at <= flow_now()
  RETURNING s.run_id, s.step_key
), /*+ waited of=step */
SELECT step_key FROM step;
