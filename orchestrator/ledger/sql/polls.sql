-- Steps that poll. Their clock is `started_at`, the first claim of the epoch; no attempt, crash or release moves it.

-- name: poll_again
-- Does:  counts a poll whose step was not ready: RUNNING to WAITING until the next one; a step whose time is over stays as it is.
-- In:    run_id, step_key, every, timeout (intervals), from_states
-- Out:   polls, and due_at; null when the time is over. No row: the step is not running
-- Time:  flow_now(), once      Index: primary key
UPDATE flow_steps s
   SET polls = s.polls + 1, failures = 0,
       status = CASE WHEN now < s.started_at + %(timeout)s THEN 'waiting' ELSE s.status END,
       due_at = CASE WHEN now < s.started_at + %(timeout)s THEN LEAST(now + %(every)s, s.started_at + %(timeout)s) END
  FROM (SELECT flow_now() AS now OFFSET 0) AS clock
 WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = ANY (%(from_states)s)
RETURNING s.polls, s.due_at;

-- name: forget_polls
-- Does:  keeps the last polls of a step in this epoch, and what happened since the first of them.
-- In:    run_id, step_key, most (polls to keep)
-- Index: primary keys
WITH first AS MATERIALIZED (
  SELECT a.attempt, s.started_at, s.dispatch_no
    FROM flow_step_attempts a JOIN flow_steps s USING (run_id, step_key)
   WHERE a.run_id = %(run_id)s AND a.step_key = %(step_key)s AND a.status = 'polled'
   ORDER BY a.attempt DESC OFFSET %(most)s - 1 LIMIT 1
), sent AS (
  DELETE FROM flow_step_dispatches d USING first
   WHERE d.run_id = %(run_id)s AND d.step_key = %(step_key)s AND d.dispatch_no <= first.dispatch_no - %(most)s
)
DELETE FROM flow_step_attempts a USING first
 WHERE a.run_id = %(run_id)s AND a.step_key = %(step_key)s AND a.attempt < first.attempt AND a.started_at >= first.started_at
   AND a.status IN ('polled', 'failed', 'timed_out');

-- name: polling
-- Does:  how often a step was not ready so far, and since when it is asked.
-- In:    run_id, step_key
SELECT polls, started_at FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s;
