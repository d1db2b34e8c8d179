-- What spans are made of, where the fact that one is made of does not say it. Read after the commit, and only where spans are made.

-- part: traced_run
r.id, r.flow, r.status::text AS run_status, r.manifest_hash, r.trigger_type, r.trace_context, r.created_at, r.ended_at AS run_ended_at,
r.source_run_id, r.parent_run_id, r.parent_step_key, r.trigger_key, r.scheduled_for,
(SELECT o.trace_context FROM flow_runs o WHERE o.id = r.source_run_id) AS source_trace,
(SELECT o.trace_context FROM flow_runs o WHERE o.id = r.parent_run_id) AS parent_trace

-- part: traced_step
s.step_key, s.status::text, /*+ kind */ AS kind, s.type, s.queue, s.attempts, s.ended_at, s.reason

-- name: traced_step
-- Does:  a step, with an attempt of it and the one before.
-- In:    run_id, step_key, attempt (null: the last one)
-- Out:   a row for each of the two attempts, the later one first; one row without an attempt where there is none
SELECT /*+ traced_run */, /*+ traced_step */,
       s.started_at - COALESCE((SELECT queue_wait FROM flow_step_attempts f
                                 WHERE f.run_id = s.run_id AND f.step_key = s.step_key AND f.started_at = s.started_at LIMIT 1),
                               '0') AS began_at,
       a.attempt, a.version, a.status::text AS attempt_status, a.started_at, a.ended_at AS attempt_ended_at, a.error_type
  FROM flow_steps s
  JOIN flow_runs r ON r.id = s.run_id
  LEFT JOIN flow_step_attempts a ON a.run_id = s.run_id AND a.step_key = s.step_key
        AND a.attempt BETWEEN COALESCE(%(attempt)s, s.attempts) - 1 AND COALESCE(%(attempt)s, s.attempts)
 WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s
 ORDER BY a.attempt DESC;

-- name: traced_end
-- Does:  a run, with those of its steps whose ends no attempt tells, of the present trace or the one before: what has no handler, and what was skipped, or stopped between
--        two attempts.
-- In:    run_id, most (steps)
SELECT /*+ traced_run */, /*+ traced_step */, COALESCE(s.started_at, s.ended_at) AS began_at
  FROM flow_runs r
  LEFT JOIN LATERAL (
    SELECT * FROM flow_steps s
     WHERE s.run_id = r.id AND s.ended_at IS NOT NULL
       AND (/*+ kind */ <> 'task' OR s.status IN ('skipped', 'cancelled') OR (s.status = 'succeeded' AND s.attempts = 0))
     ORDER BY s.ended_at DESC, s.step_key LIMIT %(most)s
  ) AS s ON TRUE
 WHERE r.id = %(run_id)s;

-- name: split_trace
-- Does:  begins another trace of a run, when one of these steps, which ended, waited so long, and in the present trace.
-- In:    run_id, step_keys, longest
-- Out:   a row, if so
-- Locks: the run, which the caller holds
UPDATE flow_runs r
   SET trace_context = /*+ trace_again */
 WHERE r.id = %(run_id)s AND r.ended_at IS NULL
   AND EXISTS (SELECT FROM flow_steps s
                WHERE s.run_id = r.id AND s.step_key = ANY (%(step_keys)s) AND s.kind = 'wait' AND s.ended_at - s.started_at > %(longest)s
                  AND s.started_at >= COALESCE(regexp_replace(r.trace_context->>'segments', '.*,', '')::timestamptz, r.created_at))
RETURNING r.id;
