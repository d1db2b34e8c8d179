-- Each move of a step, a claim or a run is written here once, as a part of every statement that makes it. What a feature adds to a
-- move, it adds here. Nothing is added to `finish_mid` and `finish_child` but through these parts.
-- What stands in [[ ]], in any statement, writes events that `whole_history` can derive. It is left out where only essential ones
-- are kept.

-- part: ready_columns
status, queued, dispatch_no, ready_at, queue_deadline

-- part: made_ready
-- The values of `ready_columns` for a step that becomes READY with a new dispatch, which `dispatched` inserts.
-- In:    when (does it?), otherwise (its status if not), number (of its last dispatch), limit (its queue_timeout)
CASE WHEN {when} THEN 'ready' ELSE {otherwise} END, {when}, {number} + ({when})::int,
CASE WHEN {when} THEN flow_now() END, CASE WHEN {when} THEN flow_now() + {limit} END

-- part: dispatched
-- The dispatch of each step that was made READY.
-- In:    of (those steps)
INSERT INTO flow_step_dispatches (run_id, step_key, dispatch_no, task, queue, priority)
SELECT run_id, step_key, dispatch_no, task, queue, priority FROM {of}

-- part: run_begun
-- The run is RUNNING once a step of it is: claimed, waiting for what it opened, or a run that it called.
-- In:    of (steps that began); parameter: run_id
begun AS (
  UPDATE flow_runs r
     SET status = 'running', started_at = COALESCE(r.started_at, flow_now())
    FROM {of}
   WHERE r.id = %(run_id)s AND r.status = 'pending'
  RETURNING r.id
)

-- part: left_off
-- What the row of a step says that ends, done by a handler or not, its status aside: nobody sends it, or wakes it.
-- In:    reason
queued = FALSE, reason = {reason}, ended_at = flow_now(), due_at = NULL, wake_at = NULL, queue_deadline = NULL

-- part: waits_closed
-- The open waits of steps that ended.
-- In:    of (those steps); parameter: run_id
wait AS (
  UPDATE flow_signal_waiters SET closed_at = flow_now()
   WHERE run_id = %(run_id)s AND step_key IN (SELECT step_key FROM {of}) AND closed_at IS NULL
)

-- part: taken
-- What the row of a step `s` says once it is claimed, its status aside.
-- In:    when (is it?)
attempts = s.attempts + ({when})::int, started_at = CASE WHEN {when} THEN COALESCE(s.started_at, flow_now()) ELSE s.started_at END

-- part: claim_given
-- The claim of each step that was taken, at the next fence version. It is the running attempt: `attempt_ended` writes that down. A
-- step without a row in `claimed` has a live claim of somebody else: the statement refuses that.
-- In:    of (those steps); parameters: run_id, owner, lease_for
claimed AS (
  INSERT INTO flow_step_claims AS c (run_id, step_key, owner, version, attempt, claimed_at, renewed_at, expires_at, stop_at)
  SELECT run_id, step_key, %(owner)s, 1, attempts, flow_now(), flow_now(), flow_now() + %(lease_for)s, flow_now() + timeout
    FROM {of}
  ON CONFLICT (run_id, step_key) DO UPDATE
     SET owner = excluded.owner, version = c.version + 1, attempt = excluded.attempt, claimed_at = excluded.claimed_at,
         renewed_at = excluded.renewed_at, expires_at = excluded.expires_at, stop_at = excluded.stop_at, progress = NULL
   WHERE c.expires_at IS NULL OR c.expires_at < flow_now()
  RETURNING c.step_key, c.version, c.attempt, c.expires_at, c.stop_at
)

-- part: claim_ended
-- The fence: ends claims that are live. Nobody else ends one.
-- In:    from (FROM and its table, or nothing), which (the condition: keys, version, owner)
UPDATE flow_step_claims c
   SET expires_at = NULL
 {from}
 WHERE {which} AND c.expires_at IS NOT NULL
RETURNING c.run_id, c.step_key, c.attempt, c.version, c.owner, c.claimed_at

-- part: own_claim
-- The caller's own, at the version it was given.
c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.version = %(version)s AND c.owner = %(owner)s

-- part: attempt_ended
-- The attempt of a claim that ended, written once. A step that was handed on was never READY, and waited for nobody.
-- In:    of (claims that ended, with the `ready_at` of their steps), at, status, columns and values (what else is known of it)
INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, started_at, queue_wait, ended_at, status, {columns})
SELECT run_id, step_key, attempt, version, owner, claimed_at, COALESCE(claimed_at - ready_at, '0'), {at}, {status}, {values}
  FROM {of}

-- part: or_written_before
-- For a claim of any owner: a worker of the release before wrote the attempt at the claim.
ON CONFLICT (run_id, step_key, attempt) DO UPDATE
   SET status = excluded.status, ended_at = excluded.ended_at, inputs = excluded.inputs, error_type = excluded.error_type,
       error_message = excluded.error_message, error_traceback = excluded.error_traceback,
       error_fingerprint = excluded.error_fingerprint

-- part: attempts_of
-- The attempts of a step, the running one too: that is its live claim, whatever a worker of the release before wrote at it.
-- In:    step (its key); parameter: run_id
(SELECT attempt, version, owner, status::text, error_type, error_message, error_traceback, inputs, queue_wait, started_at, ended_at,
        error_fingerprint
   FROM flow_step_attempts WHERE run_id = %(run_id)s AND step_key = {step} AND ended_at IS NOT NULL
  UNION ALL
 SELECT held.attempt, version, owner, 'running', NULL, NULL, NULL, NULL, COALESCE(claimed_at - own.ready_at, '0'), claimed_at, NULL, NULL
   FROM flow_step_claims held JOIN flow_steps own USING (run_id, step_key)
  WHERE run_id = %(run_id)s AND step_key = {step} AND expires_at IS NOT NULL)

-- part: run_ended
-- What hangs on the end of a run.
-- In:    of (runs that ended: id, status, controlled), before (events to write before, with UNION ALL, or nothing)
closed AS (
  UPDATE flow_run_controls k SET closed = TRUE FROM {of} AS r WHERE r.controlled AND k.run_id = r.id
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  {before}
  SELECT id, 'run.' || status, NULL, NULL FROM {of} AS r
)

-- part: trace_again
-- What is kept of the trace of a run `r` of which another one begins.
(COALESCE(r.trace_context::jsonb, '{}')
 || jsonb_build_object('segments', concat_ws(',', r.trace_context->>'segments', flow_now()::text)))::json

-- part: kind
-- What a step `s` is. Releases before schema 0004 write none: their steps without a type are loops.
COALESCE(s.kind, CASE WHEN s.type IS NULL THEN 'loop' ELSE 'task' END)
