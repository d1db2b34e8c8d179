-- Each move of a step, a claim or a run is written here once, as a part of every statement that makes it. What a feature adds to a
-- move, it adds here. Nothing is added to `finish_mid` and `finish_child` but through these parts.

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

-- part: taken
-- What the row of a step `s` says once it is claimed, its status aside.
-- In:    when (is it?)
attempts = s.attempts + ({when})::int, started_at = CASE WHEN {when} THEN COALESCE(s.started_at, flow_now()) ELSE s.started_at END

-- part: claim_given
-- The claim of each step that was taken, at the next fence version, and its attempt. A step without a row in `claimed` has a live
-- claim of somebody else: the statement refuses that.
-- In:    of (those steps), wait (how long they were READY); parameters: run_id, owner, lease_for
claimed AS (
  INSERT INTO flow_step_claims AS c (run_id, step_key, owner, version, attempt, claimed_at, renewed_at, expires_at, stop_at)
  SELECT run_id, step_key, %(owner)s, 1, attempts, flow_now(), flow_now(), flow_now() + %(lease_for)s, flow_now() + timeout
    FROM {of}
  ON CONFLICT (run_id, step_key) DO UPDATE
     SET owner = excluded.owner, version = c.version + 1, attempt = excluded.attempt, claimed_at = excluded.claimed_at,
         renewed_at = excluded.renewed_at, expires_at = excluded.expires_at, stop_at = excluded.stop_at, progress = NULL
   WHERE c.expires_at IS NULL OR c.expires_at < flow_now()
  RETURNING c.step_key, c.version, c.attempt, c.expires_at, c.stop_at
), tried AS (
  INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, queue_wait)
  SELECT %(run_id)s, step_key, attempt, version, %(owner)s, {wait} FROM claimed
)

-- part: claim_ended
-- The fence: ends claims that are live. Nobody else ends one.
-- In:    from (FROM and its table, or nothing), which (the condition: keys, version, owner)
UPDATE flow_step_claims c
   SET expires_at = NULL
 {from}
 WHERE {which} AND c.expires_at IS NOT NULL
RETURNING c.run_id, c.step_key, c.attempt, c.version

-- part: own_claim
-- The caller's own, at the version it was given.
c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.version = %(version)s AND c.owner = %(owner)s

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

-- part: kind
-- What a step `s` is. Releases before schema 0004 write none: their steps without a type are loops.
COALESCE(s.kind, CASE WHEN s.type IS NULL THEN 'loop' ELSE 'task' END)
