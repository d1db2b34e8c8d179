-- name: halt
-- Does:  from its commit on no claim is given. What runs goes on to its end: handlers, and runs that were called, which the caller
--        stops afterwards. The caller holds the run FOR UPDATE.
-- In:    run_id, halt, by, reason, grace, timed_out (bool)
WITH run AS (
  UPDATE flow_runs
     SET halt = %(halt)s::text, controlled = TRUE,
         error = json_build_object('type', %(halt)s::text, 'message', %(reason)s::text, 'by', %(by)s::text)
   WHERE id = %(run_id)s
), control AS (
  INSERT INTO flow_run_controls AS k (run_id, cancel_requested_at, cancel_by, cancel_reason, timed_out_at, grace_ends_at)
  VALUES (%(run_id)s, CASE WHEN NOT %(timed_out)s THEN flow_now() END, %(by)s, %(reason)s,
          CASE WHEN %(timed_out)s THEN flow_now() END, flow_now() + %(grace)s)
  ON CONFLICT (run_id) DO UPDATE
     SET cancel_requested_at = COALESCE(excluded.cancel_requested_at, k.cancel_requested_at),
         cancel_by = excluded.cancel_by, cancel_reason = excluded.cancel_reason,
         timed_out_at = excluded.timed_out_at, grace_ends_at = excluded.grace_ends_at
), step AS (
  UPDATE flow_steps s
     SET status = 'cancelled', /*+ left_off reason=%(reason)s */
   WHERE run_id = %(run_id)s AND (status IN ('blocked', 'ready', 'waiting') OR status = 'running' AND /*+ kind */ NOT IN ('task', 'flow'))
  RETURNING step_key
), waits AS (
  UPDATE flow_signal_waiters SET closed_at = flow_now() WHERE run_id = %(run_id)s AND closed_at IS NULL
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT %(run_id)s, CASE WHEN %(timed_out)s THEN 'run.deadline_passed' ELSE 'run.cancel_requested' END, NULL,
         json_build_object('by', %(by)s::text, 'reason', %(reason)s::text)
  UNION ALL
  SELECT %(run_id)s, 'step.cancelled', step_key, NULL FROM step
)
SELECT count(*) AS cancelled FROM step;

-- name: release
-- Does:  gives a claimed step back unstarted: no attempt is charged.
-- In:    run_id, step_key, version, owner
-- Out:   the dispatch; none = stale, or the run is halted (then nobody could take the step again)
-- Locks: run FOR KEY SHARE (against a halt under way), claim, step
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), fence AS (
  /*+ claim_ended from=FROM run; which=/*+ own_claim */ */
), step AS (
  UPDATE flow_steps s
     SET (/*+ ready_columns */) = (/*+ made_ready when=TRUE; otherwise=NULL; number=s.dispatch_no; limit=s.queue_timeout */),
         attempts = s.attempts - 1
    FROM fence
   WHERE s.run_id = fence.run_id AND s.step_key = fence.step_key AND s.status = 'running'
  RETURNING s.run_id, s.step_key, s.dispatch_no, s.task, s.queue, s.priority
), dispatch AS (
  /*+ dispatched of=step */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.released', step_key FROM step
)
SELECT * FROM step;

-- part: reset
-- An ended step waits again. Its attempts are counted on, its retries and its polls anew: `started_at` is the clock of these.
status = 'blocked', reason = NULL, started_at = NULL, ended_at = NULL, failures = 0, crashes = 0, deploys = 0, polls = 0

-- name: step_states
-- Does:  what an operator's retry plans with: the steps of the manifest, children left out.
SELECT step_key, status FROM flow_steps WHERE run_id = %(run_id)s AND loop_key IS NULL;

-- name: opened_loops
-- Does:  loops that have children, among these steps.
-- In:    run_id, step_keys
SELECT step_key FROM flow_steps WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s) AND children_open IS NOT NULL;

-- name: states_in_items
-- Does:  where the steps of these items stand.
-- In:    run_id, item_keys
SELECT s.loop_key, s.step_key, s.status
  FROM unnest(%(item_keys)s::text[]) AS i(key),
       LATERAL (SELECT loop_key, step_key, status FROM flow_steps
                 WHERE run_id = %(run_id)s AND step_key >= i.key || '.' AND step_key < i.key || '/' AND loop_key = i.key OFFSET 0) AS s;

-- name: recount_item
-- Does:  counts an item again, steps of which were reset.
-- In:    run_id, item_key, sinks, failures (those that stay), reason (of the first of these)
-- Out:   whether it is under way, or waits for a place; none = it is over
UPDATE flow_steps
   SET children_open = %(sinks)s, children_failed = %(failures)s, reason = %(reason)s
 WHERE run_id = %(run_id)s AND step_key = %(item_key)s AND status IN ('blocked', 'running')
RETURNING status;

-- name: failed_children
-- Does:  the first children of a loop that did not succeed, in order.
-- In:    run_id, loop_key, limit
SELECT step_key FROM flow_steps
 WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s || '.' AND step_key < %(loop_key)s || '/'
   AND loop_key = %(loop_key)s AND status IN ('failed', 'cancelled', 'skipped')
 ORDER BY loop_index LIMIT %(limit)s;

-- name: reset_blocked
-- In:    run_id, step_keys, open and unmet (arrays: predecessors that have not ended, and that ended otherwise than asked)
UPDATE flow_steps s
   SET /*+ reset */, deps_open = t.open, deps_unmet = t.unmet
  FROM unnest(%(step_keys)s::text[], %(open)s::int[], %(unmet)s::int[]) AS t(step_key, open, unmet)
 WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s::text[]) AND s.step_key = t.step_key
   AND s.status IN ('blocked', 'cancelled', 'failed', 'skipped');

-- name: reset_children
-- Does:  children of a loop that ended without success, items among them, wait for its window again.
UPDATE flow_steps
   SET /*+ reset */
 WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s) AND status IN ('failed', 'cancelled', 'skipped');

-- name: reset_loop
-- Does:  all failed children of a loop wait for its window again, without naming each.
UPDATE flow_steps
   SET /*+ reset */
 WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s || '.' AND step_key < %(loop_key)s || '/'
   AND loop_key = %(loop_key)s AND status IN ('failed', 'cancelled', 'skipped');

-- name: reopen_loop
-- Does:  counts a loop's children anew, after some were reset.
-- In:    run_id, loop_key, pointer (-1: who comes next through the window is looked up; null: nobody waits), keep (leave an
--        open loop's pointer as it is)
-- Out:   all children, those that are open, and those of them that are in the window
UPDATE flow_steps l
   SET status = 'running', reason = NULL, ended_at = NULL, children_open = c.open, children_failed = c.failed,
       children_next = CASE WHEN %(keep)s AND l.status = 'running' THEN l.children_next ELSE %(pointer)s::int END
  FROM (SELECT count(*) AS width,
               count(*) FILTER (WHERE status IN ('blocked', 'ready', 'running', 'waiting')) AS open,
               count(*) FILTER (WHERE status IN ('ready', 'running', 'waiting')) AS moving,
               count(*) FILTER (WHERE status IN ('failed', 'cancelled')) AS failed
          FROM flow_steps
         WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s || '.' AND step_key < %(loop_key)s || '/'
           AND loop_key = %(loop_key)s) AS c
 WHERE l.run_id = %(run_id)s AND l.step_key = %(loop_key)s
RETURNING c.width, l.children_open, c.moving, l.children_failed;

-- name: aim_window
-- Does:  says which child a reopened loop lets in next, where that needs no looking up (null: nobody waits).
-- In:    run_id, loop_key, pointer
UPDATE flow_steps SET children_next = %(pointer)s WHERE run_id = %(run_id)s AND step_key = %(loop_key)s;

-- name: reopen_run
-- Does:  a run that ended goes on, in a new epoch; at once, even if it was cancelled before it was to begin.
-- In:    run_id, sinks_open, failures, error (JSON: of the first of these, or null), fingerprint (of it), by, steps (JSON)
WITH run AS (
  UPDATE flow_runs r
     SET status = 'running', halt = NULL, ended_at = NULL, error = %(error)s::json, fingerprint = %(fingerprint)s, epoch = epoch + 1, sinks_open = %(sinks_open)s,
         failures = %(failures)s, parent_told = parent_run_id IS NULL, trace_context = /*+ trace_again */
   WHERE id = %(run_id)s
  RETURNING id, epoch
), control AS (
  UPDATE flow_run_controls
     SET closed = FALSE, deadline = CASE WHEN deadline > flow_now() THEN deadline END, start_at = NULL, cancel_requested_at = NULL,
         cancel_by = NULL, cancel_reason = NULL, timed_out_at = NULL, grace_ends_at = NULL
   WHERE run_id = %(run_id)s
)
INSERT INTO flow_events (run_id, type, facts)
SELECT id, 'run.retried', json_build_object('by', %(by)s::text, 'epoch', epoch, 'steps', %(steps)s::json) FROM run;

-- name: failures
SELECT failures, crashes FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: charge_crash
-- Does:  counts a lost attempt of a step that runs again. The caller holds the run.
UPDATE flow_steps SET crashes = crashes + 1 WHERE run_id = %(run_id)s AND step_key = %(step_key)s;
