-- Signals: what was sent to a run (`flow_signals`), and the steps that wait for one (`flow_signal_waiters`, with a row for each wait
-- of a run that was opened). The caller holds the run row, except where it only reads.

-- part: open_waits
-- A wait is open while its step waits, whatever closed that. A run may have thousands: each step is looked up by its key.
-- In:    which (more conditions); parameters: run_id, name
-- Index: ix_flow_signal_waiters_name
FROM flow_signal_waiters w,
       LATERAL (SELECT position, loop_index FROM flow_steps
                 WHERE run_id = w.run_id AND step_key = w.step_key AND status = 'waiting' OFFSET 0) AS s
 WHERE w.run_id = %(run_id)s AND w.signal = %(name)s AND {which} AND w.closed_at IS NULL

-- name: park_signal
-- Does:  BLOCKED to WAITING for a signal, until its deadline. A wait that was open before, in an earlier epoch, begins anew.
-- In:    run_id, step_key, signal, key, kind, timeout (interval), until (time), title, assignee, shown (JSON), from_states
-- Out:   deadline
-- Time:  flow_now()
WITH step AS (
  UPDATE flow_steps
     SET status = 'waiting', started_at = flow_now(), wake_at = LEAST(flow_now() + %(timeout)s::interval, %(until)s::timestamptz)
   WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s)
  RETURNING run_id, step_key, wake_at
), wait AS (
  INSERT INTO flow_signal_waiters AS w (run_id, step_key, signal, key, kind, deadline, created_at, title, assignee, shown)
  SELECT run_id, step_key, %(signal)s, %(key)s, %(kind)s, wake_at, flow_now(), %(title)s, %(assignee)s, %(shown)s::json FROM step
  ON CONFLICT (run_id, step_key) DO UPDATE
     SET key = excluded.key, deadline = excluded.deadline, created_at = excluded.created_at, closed_at = NULL, signal_id = NULL,
         delivered_by = NULL, delivered_at = NULL, title = excluded.title, assignee = excluded.assignee, shown = excluded.shown
), /*+ run_begun of=step */, event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT id, 'run.started', NULL, NULL FROM begun
  UNION ALL
  SELECT run_id, 'step.parked', step_key,
         json_strip_nulls(json_build_object('signal', %(signal)s::text, 'key', NULLIF(%(key)s::text, ''), 'until', wake_at,
                                            'title', %(title)s::text, 'to', %(assignee)s::text))
    FROM step
)
SELECT wake_at FROM step;

-- name: kept_signal
-- Does:  the oldest signal of that name and key that was kept, and has not expired.
-- In:    run_id, name, key
-- Out:   id, by, payload as text; none
-- Time:  flow_now()        Index: ix_flow_signals_kept
SELECT id, "by", payload::text AS payload FROM flow_signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND key = %(key)s AND consumed_at IS NULL
   AND (expires_at IS NULL OR expires_at > flow_now())
 ORDER BY seq LIMIT 1;

-- name: kept_signals
-- Does:  what a run keeps that nobody took, by name and key; what came first stands first.
-- In:    run_id, limit
-- Time:  flow_now()
SELECT name, key, count(*) AS found FROM flow_signals
 WHERE run_id = %(run_id)s AND kept AND consumed_at IS NULL AND (expires_at IS NULL OR expires_at > flow_now())
 GROUP BY name, key ORDER BY min(seq) LIMIT %(limit)s;

-- name: keep_signal
-- Does:  a signal that nothing waits for now is kept.
-- In:    run_id, name, id, key, payload, digest, by, ttl (interval, or null)
-- Out:   sent_at, expires_at
WITH kept AS (
  INSERT INTO flow_signals (run_id, name, id, key, payload, digest, "by", kept, expires_at)
  VALUES (%(run_id)s, %(name)s, %(id)s, %(key)s, %(payload)s::json, %(digest)s, %(by)s, TRUE, flow_now() + %(ttl)s::interval)
  RETURNING sent_at, expires_at
), event AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT %(run_id)s, 'signal.kept',
         json_strip_nulls(json_build_object('name', %(name)s::text, 'key', NULLIF(%(key)s::text, ''), 'id', %(id)s::text,
                                            'by', %(by)s::text, 'expires_at', expires_at))
    FROM kept
)
SELECT sent_at, expires_at FROM kept;

-- name: add_signal
-- Does:  a signal comes that a step waits for; `take_signal` follows.
-- In:    run_id, name, id, key, payload, digest, by
INSERT INTO flow_signals (run_id, name, id, key, payload, digest, "by", kept)
VALUES (%(run_id)s, %(name)s, %(id)s, %(key)s, %(payload)s::json, %(digest)s, %(by)s, FALSE);

-- name: take_signal
-- Does:  a step takes a signal, and succeeds with its payload. A kept one is looked at again: it may have expired, or been taken.
-- In:    run_id, step_key, name, id, approval (is it one?), from_states
-- Out:   when; none = it cannot be taken any more, or the step is in another state: nothing was written
-- Time:  flow_now()
WITH taken AS (
  UPDATE flow_signals SET consumed_by = %(step_key)s, consumed_at = flow_now()
   WHERE run_id = %(run_id)s AND name = %(name)s AND id = %(id)s AND consumed_at IS NULL
     AND (expires_at IS NULL OR expires_at > flow_now())
     AND EXISTS (SELECT FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s))
  RETURNING run_id, name, id, key, "by", payload, consumed_at
), step AS (
  UPDATE flow_steps s
     SET status = 'succeeded', started_at = COALESCE(s.started_at, taken.consumed_at), ended_at = taken.consumed_at, wake_at = NULL
    FROM taken
   WHERE s.run_id = taken.run_id AND s.step_key = %(step_key)s AND s.status = ANY (%(from_states)s)
  RETURNING s.step_key
), put AS (
  INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, %(step_key)s, payload FROM taken
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
), wait AS (
  INSERT INTO flow_signal_waiters AS w (run_id, step_key, signal, key, kind, signal_id, delivered_by, delivered_at, closed_at)
  SELECT run_id, %(step_key)s, name, key, CASE WHEN %(approval)s THEN 'approval' ELSE 'signal' END, id, "by", consumed_at, consumed_at
    FROM taken
  ON CONFLICT (run_id, step_key) DO UPDATE
     SET key = excluded.key, signal_id = excluded.signal_id, delivered_by = excluded.delivered_by,
         delivered_at = excluded.delivered_at, closed_at = excluded.closed_at
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT run_id, CASE WHEN %(approval)s THEN 'approval.answered' ELSE 'signal.delivered' END, %(step_key)s,
         json_strip_nulls(json_build_object('name', name, 'key', NULLIF(key, ''), 'id', id, 'by', "by"))
    FROM taken
  UNION ALL
  SELECT run_id, 'step.succeeded', %(step_key)s, NULL FROM taken
)
SELECT consumed_at FROM taken;

-- name: sent_signal
-- Does:  a signal by its id.
-- In:    run_id, name, id
SELECT digest, kept, sent_at, expires_at, consumed_by, consumed_at FROM flow_signals
 WHERE run_id = %(run_id)s AND name = %(name)s AND id = %(id)s;

-- name: oldest_wait
-- Does:  the step that has waited longest for that name and key; whether its time is over; and how long that is, in seconds.
-- In:    run_id, name, key
-- Time:  flow_now(), read with the run held
SELECT w.step_key, COALESCE(w.deadline <= flow_now(), FALSE) AS over,
       EXTRACT(epoch FROM flow_now() - w.created_at)::float8 AS waited_s
  /*+ open_waits which=w.key = %(key)s */
 ORDER BY w.created_at, s.position, s.loop_index, w.step_key LIMIT 1;

-- name: open_keys
-- Does:  keys that are waited for now, under that name.
-- In:    run_id, name, limit
SELECT DISTINCT w.key
  /*+ open_waits which=TRUE */
 ORDER BY w.key LIMIT %(limit)s;

-- name: last_wait
-- Does:  of the waits of a name and key that were opened, the one that ended last, and where its step stands now.
-- In:    run_id, name, key
-- Index: ix_flow_signal_waiters_name
SELECT w.step_key, w.signal_id, w.title, w.delivered_by, w.delivered_at, s.status
  FROM flow_signal_waiters w,
       LATERAL (SELECT status FROM flow_steps WHERE run_id = w.run_id AND step_key = w.step_key OFFSET 0) AS s
 WHERE w.run_id = %(run_id)s AND w.signal = %(name)s AND w.key = %(key)s
 ORDER BY w.closed_at DESC NULLS LAST, w.step_key LIMIT 1;

-- name: count_kept
-- Does:  how many signals a run keeps, `limit` at most. Those that expired are in the way of nobody.
-- In:    run_id, limit
SELECT count(*) AS kept
  FROM (SELECT FROM flow_signals WHERE run_id = %(run_id)s AND consumed_at IS NULL
           AND (expires_at IS NULL OR expires_at > flow_now()) LIMIT %(limit)s) AS found;

-- name: close_wait
-- Does:  a wait whose time is over, or that was withdrawn, is not open any more.
-- In:    run_id, step_key
UPDATE flow_signal_waiters SET closed_at = flow_now() WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND closed_at IS NULL;

-- name: default_taken
-- Does:  the time of a wait is over, and it succeeds with what was said for that case.
-- In:    run_id, step_key, output (JSON), from_states
WITH step AS (
  UPDATE flow_steps SET status = 'succeeded', ended_at = flow_now(), wake_at = NULL
   WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s)
  RETURNING run_id, step_key
), put AS (
  INSERT INTO flow_outputs (run_id, step_key, output) SELECT run_id, step_key, %(output)s::json FROM step
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
)
INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.succeeded', step_key FROM step;

-- name: wait_of
-- Does:  what a step waits for, or waited for.
-- In:    run_id, step_key
SELECT w.signal, w.key, w.kind, w.deadline, w.created_at, w.title, w.assignee, w.shown, w.delivered_by, w.delivered_at, w.closed_at
  FROM flow_signal_waiters w WHERE w.run_id = %(run_id)s AND w.step_key = %(step_key)s;

-- name: open_approvals
-- Does:  a page of the answers that are waited for, the oldest first. What else is known is looked up for these only.
-- In:    assignee (or null: of anybody), run and step (of the last one before; null: from the first on), limit
-- Index: ix_flow_signal_waiters_open
SELECT w.run_id, w.step_key, r.flow, r.manifest_hash, w.title, w.assignee, w.shown, w.created_at, w.deadline, w.delivered_by,
       w.delivered_at, s.status
  FROM (SELECT * FROM flow_signal_waiters o
         WHERE kind = 'approval' AND closed_at IS NULL AND (%(assignee)s::text IS NULL OR assignee = %(assignee)s::text)
           AND (%(run)s::uuid IS NULL OR (created_at, run_id, step_key) > (
                SELECT created_at, run_id, step_key FROM flow_signal_waiters WHERE run_id = %(run)s::uuid AND step_key = %(step)s::text))
         ORDER BY created_at, run_id, step_key OFFSET 0) AS w,
       LATERAL (SELECT status FROM flow_steps
                 WHERE run_id = w.run_id AND step_key = w.step_key AND status = 'waiting' OFFSET 0) AS s,
       LATERAL (SELECT flow, manifest_hash FROM flow_runs WHERE id = w.run_id OFFSET 0) AS r
 ORDER BY w.created_at, w.run_id, w.step_key LIMIT %(limit)s;

-- name: approval
-- Does:  one approval, whether it is open or not.
-- In:    run_id, step_key
SELECT w.run_id, w.step_key, r.flow, r.manifest_hash, w.title, w.assignee, w.shown, w.created_at, w.deadline, w.delivered_by,
       w.delivered_at, s.status
  FROM flow_signal_waiters w
  JOIN flow_steps s ON s.run_id = w.run_id AND s.step_key = w.step_key
  JOIN flow_runs r ON r.id = w.run_id
 WHERE w.run_id = %(run_id)s AND w.step_key = %(step_key)s AND w.kind = 'approval';
