-- What is looked for by time is compared with `(SELECT flow_now())`: the clock itself is volatile, and an index is not searched for
-- what may change while it is read; it would be read from end to end. Expired claims are few, and a planner cannot know: LATERAL
-- with OFFSET 0 looks their steps and runs up one by one, where a join may read all runs there ever were.

-- part: put_back
-- RUNNING to READY, at the cost of one crash each. `lost` holds the claims, locked: run_id, step_key, version.
ended AS (
  UPDATE flow_step_claims c SET expires_at = NULL
    FROM lost
   WHERE c.run_id = lost.run_id AND c.step_key = lost.step_key AND c.version = lost.version
  RETURNING c.run_id, c.step_key, c.attempt, c.version
), attempt AS (
  UPDATE flow_step_attempts a
     SET status = 'crashed', ended_at = flow_now(), error_type = 'WorkerLost',
         error_message = 'the worker died, or could not renew its lease'
    FROM ended
   WHERE a.run_id = ended.run_id AND a.step_key = ended.step_key AND a.attempt = ended.attempt
), step AS (
  UPDATE flow_steps s
     SET status = 'ready', queued = TRUE, dispatch_no = s.dispatch_no + 1, ready_at = flow_now(), crashes = s.crashes + 1,
         queue_deadline = flow_now() + s.queue_timeout
    FROM ended
   WHERE s.run_id = ended.run_id AND s.step_key = ended.step_key AND s.status = 'running'
  RETURNING s.run_id, s.step_key, s.dispatch_no, s.task, s.queue, s.priority, ended.attempt, ended.version
), dispatch AS (
  INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority)
  SELECT run_id, step_key, dispatch_no, task, queue, priority FROM step
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT run_id, 'step.lease_expired', step_key, attempt FROM step
  UNION ALL
  SELECT run_id, 'step.dispatched', step_key, NULL FROM step
)

-- name: requeue_expired
-- Does:  a page of steps whose lease ran out are READY again. In one statement, so that nothing is read that another keeper
--        already writes, and no keeper can fall asleep between its reading and its writing. What another keeper, a renewal, a
--        claim or a cancel holds is left for the next time; steps of halted runs, and those lost too often, for `expired`.
-- In:    page, crash_limit
-- Out:   the dispatches, with the version of the claim that was lost
-- Locks: runs FOR KEY SHARE and claims, waiting for none of them; then their attempts and steps
-- Time:  flow_now()        Index: ix_flow_step_claims_live
WITH lost AS MATERIALIZED (
  SELECT c.run_id, c.step_key, c.version
    FROM flow_step_claims c,
         LATERAL (SELECT crashes FROM flow_steps WHERE run_id = c.run_id AND step_key = c.step_key OFFSET 0) AS s,
         LATERAL (SELECT FROM flow_runs r WHERE id = c.run_id AND r.halt IS NULL FOR KEY SHARE SKIP LOCKED) AS r
   WHERE c.expires_at IS NOT NULL AND c.expires_at < (SELECT flow_now()) AND s.crashes < %(crash_limit)s
   ORDER BY c.expires_at
   LIMIT %(page)s
     FOR NO KEY UPDATE OF c SKIP LOCKED
), /*+ put_back */
SELECT run_id, step_key, dispatch_no, task, queue, priority, version FROM step;

-- name: expired
-- Does:  a page of claims whose lease ran out and whose step may not run again: its run is halted, or it was lost too often.
-- In:    page, crash_limit
-- Out:   run_id, step_key, version, attempt, owner, crashes, halted
-- Time:  flow_now()        Index: ix_flow_step_claims_live
SELECT c.run_id, c.step_key, c.version, c.attempt, c.owner, s.crashes, r.halted
  FROM flow_step_claims c,
       LATERAL (SELECT crashes FROM flow_steps WHERE run_id = c.run_id AND step_key = c.step_key OFFSET 0) AS s,
       LATERAL (SELECT halt IS NOT NULL AS halted FROM flow_runs WHERE id = c.run_id OFFSET 0) AS r
 WHERE c.expires_at IS NOT NULL AND c.expires_at < (SELECT flow_now()) AND (r.halted OR s.crashes >= %(crash_limit)s)
 ORDER BY c.expires_at
 LIMIT %(page)s;

-- name: held_by
-- Does:  the live claims of a worker process, or of one of its pool children.
-- In:    owner, prefix (owner followed by '/%%'), page
SELECT c.run_id, c.step_key, c.version, c.attempt, c.owner, s.crashes, r.halt IS NOT NULL AS halted
  FROM flow_step_claims c
  JOIN flow_steps s ON s.run_id = c.run_id AND s.step_key = c.step_key
  JOIN flow_runs r ON r.id = c.run_id
 WHERE c.expires_at IS NOT NULL AND (c.owner = %(owner)s OR c.owner LIKE %(prefix)s)
 LIMIT %(page)s
   FOR UPDATE OF c SKIP LOCKED
   FOR KEY SHARE OF r SKIP LOCKED;

-- name: requeue_lost
-- Does:  the steps of a worker that is known to be dead are READY again; each quotes the version it was read at. A run that was
--        halted meanwhile is left alone: nobody could take its step again.
-- In:    run_ids, step_keys, versions
-- Out:   the dispatches
-- Locks: runs FOR KEY SHARE (against a halt under way) and claims, in key order, then attempts and steps
WITH lost AS MATERIALIZED (
  SELECT c.run_id, c.step_key, c.version
    FROM unnest(%(run_ids)s::uuid[], %(step_keys)s::text[], %(versions)s::bigint[]) AS t(run_id, step_key, version)
    JOIN flow_step_claims c USING (run_id, step_key, version)
    JOIN flow_runs r ON r.id = c.run_id
   WHERE c.expires_at IS NOT NULL AND r.halt IS NULL AND c.step_key = ANY (%(step_keys)s::text[])
   ORDER BY c.run_id, c.step_key
     FOR KEY SHARE OF r FOR NO KEY UPDATE OF c
), /*+ put_back */
SELECT run_id, step_key, dispatch_no, task, queue, priority FROM step;

-- name: end_sessions
-- Does:  ends the transactions in which lost attempts of transactional steps still hold what they wrote: the next attempt
--        would wait for it, and fail. A claim that was renewed meanwhile keeps its transaction.
-- In:    names (of the sessions), run_ids, step_keys, versions
SELECT pg_terminate_backend(a.pid)
  FROM unnest(%(names)s::text[], %(run_ids)s::uuid[], %(step_keys)s::text[], %(versions)s::bigint[])
         AS t(name, run_id, step_key, version)
  JOIN pg_stat_activity a ON a.application_name = t.name
 WHERE a.datname = current_database() AND a.usename = current_user
   AND NOT EXISTS (SELECT FROM flow_step_claims c WHERE c.run_id = t.run_id AND c.step_key = t.step_key
                      AND c.version = t.version AND c.expires_at IS NOT NULL);

-- name: due
-- Does:  WAITING to READY for steps whose time has come.
-- In:    page
-- Out:   the dispatches
-- Time:  flow_now()        Index: ix_flow_steps_due
WITH page AS MATERIALIZED (
  SELECT run_id, step_key FROM flow_steps
   WHERE due_at <= (SELECT flow_now()) ORDER BY due_at LIMIT %(page)s FOR NO KEY UPDATE SKIP LOCKED
), step AS (
  UPDATE flow_steps s
     SET status = 'ready', queued = TRUE, dispatch_no = s.dispatch_no + 1, ready_at = flow_now(), due_at = NULL,
         queue_deadline = flow_now() + s.queue_timeout
    FROM page
   WHERE s.run_id = page.run_id AND s.step_key = page.step_key AND s.status = 'waiting'
  RETURNING s.run_id, s.step_key, s.dispatch_no, s.task, s.queue, s.priority
), dispatch AS (
  INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority) SELECT * FROM step
), event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.dispatched', step_key FROM step
)
SELECT * FROM step;

-- name: next_due
-- Out:   seconds until the next timer; null when none is set
SELECT EXTRACT(epoch FROM min(due_at) - flow_now())::float AS seconds FROM flow_steps WHERE due_at IS NOT NULL;

-- name: past_deadline
-- Does:  open runs past their deadline.
-- In:    page              Index: ix_flow_run_controls_deadline
SELECT run_id FROM flow_run_controls
 WHERE NOT closed AND deadline IS NOT NULL AND deadline < (SELECT flow_now()) AND timed_out_at IS NULL
 ORDER BY deadline LIMIT %(page)s;

-- name: past_queue_deadline
-- Does:  ready steps that nobody claimed in time.
-- In:    page              Index: ix_flow_steps_queue_deadline
SELECT run_id, step_key, dispatch_no FROM flow_steps
 WHERE queue_deadline < (SELECT flow_now())
 ORDER BY queue_deadline LIMIT %(page)s;

-- name: still_ready
-- Does:  locks a step if it is still waiting at that dispatch. One that a claim holds is being claimed: waiting for it here,
--        with the run locked, would be a deadlock.
SELECT queue_timeout FROM flow_steps
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = 'ready' AND dispatch_no = %(number)s
   AND queue_deadline < flow_now()
   FOR NO KEY UPDATE SKIP LOCKED;

-- name: overrun
-- Does:  live claims of one worker that are past their step timeout, or whose run was halted and the grace is over.
-- In:    owner, prefix, page
SELECT c.run_id, c.step_key, c.version, c.owner, c.stop_at < flow_now() AS timed_out
  FROM flow_step_claims c
  LEFT JOIN flow_run_controls k ON k.run_id = c.run_id AND NOT k.closed
 WHERE c.expires_at IS NOT NULL AND (c.owner = %(owner)s OR c.owner LIKE %(prefix)s)
   AND (c.stop_at < flow_now() OR k.grace_ends_at < flow_now())
 LIMIT %(page)s;
