-- Runs that a step of another run started: its parent. Whoever locks both locks the parent first. A transaction of the child alone
-- never locks its parent: what the parent has to know is told afterwards, by a transaction that holds the parent.

-- name: delegate
-- Does:  a call of a flow is RUNNING, and so is its run. The caller holds that; the child is linked, or was before.
-- In:    run_id, step_key, from_states
-- Out:   child_run_id, the run that it called last, and whether it retries by itself (`retries`) or an operator ran it again; none =
--        it calls for the first time
WITH last AS (
  SELECT child_run_id, status = 'waiting' AS retries FROM flow_steps
   WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND child_run_id IS NOT NULL
), step AS (
  UPDATE flow_steps s
     SET status = 'running', /*+ taken when=TRUE */, wake_at = NULL
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = ANY (%(from_states)s)
  RETURNING s.step_key
), /*+ run_begun of=step */, event AS (
  INSERT INTO flow_events (run_id, type) SELECT id, 'run.started' FROM begun
)
SELECT child_run_id, retries FROM last;

-- name: link_child
-- Does:  a run that was accepted in this transaction belongs to a step of its parent. Unless it is `detached`, its end is told to
--        that, and its deadline is not later than the parent's.
-- In:    child, parent, step_key, detached
WITH step AS (
  UPDATE flow_steps SET child_run_id = %(child)s WHERE run_id = %(parent)s AND step_key = %(step_key)s
  RETURNING attempts
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt, facts)
  SELECT %(parent)s, 'step.delegated', %(step_key)s, attempts,
         json_build_object('child', %(child)s::text, 'flow', (SELECT flow FROM flow_runs WHERE id = %(child)s))
    FROM step
), control AS (
  INSERT INTO flow_run_controls AS k (run_id, deadline)
  SELECT %(child)s, deadline FROM flow_run_controls
   WHERE run_id = %(parent)s AND deadline IS NOT NULL AND NOT %(detached)s
  ON CONFLICT (run_id) DO UPDATE SET deadline = LEAST(k.deadline, excluded.deadline)
  RETURNING run_id
), told AS (
  UPDATE flow_events SET facts = json_build_object('parent', %(parent)s::text, 'step', %(step_key)s::text)
   WHERE run_id = %(child)s AND type = 'run.accepted'
)
UPDATE flow_runs
   SET parent_run_id = %(parent)s, parent_step_key = %(step_key)s, parent_told = %(detached)s,
       controlled = controlled OR EXISTS (SELECT FROM control)
 WHERE id = %(child)s;

-- name: caller
-- Does:  what a child takes over from its parent: the tags, and its place in the trace; and how many runs are above it, the parent
--        among them.
-- In:    run_id (the parent), limit (of runs to look at)
WITH RECURSIVE above AS (
  SELECT parent_run_id, 1 AS depth FROM flow_runs WHERE id = %(run_id)s
  UNION ALL
  SELECT r.parent_run_id, depth + 1
    FROM above, LATERAL (SELECT parent_run_id FROM flow_runs WHERE id = above.parent_run_id OFFSET 0) AS r
   WHERE depth < %(limit)s
)
SELECT r.tags, r.trace_context, (SELECT max(depth) FROM above) AS depth FROM flow_runs r WHERE r.id = %(run_id)s;

-- name: parent_of
-- Does:  whom the end of a run is to be told. Nothing is locked.
-- Out:   no row: it has no parent, has not ended, or its end was told
SELECT parent_run_id, parent_step_key FROM flow_runs
 WHERE id = %(run_id)s AND NOT parent_told AND ended_at IS NOT NULL;

-- name: tell_parent
-- Does:  the end of a run is told, from this commit on. The caller holds the parent, if there still is one.
-- Out:   how it ended; no row: somebody else told it, or it is open again
WITH told AS (
  UPDATE flow_runs SET parent_told = TRUE
   WHERE id = %(run_id)s AND NOT parent_told AND ended_at IS NOT NULL
  RETURNING id, flow, manifest_hash, status, error, parent_run_id, parent_step_key
), event AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT id, 'run.reported', json_build_object('parent', parent_run_id::text, 'step', parent_step_key) FROM told
)
SELECT id, flow, manifest_hash, status, error FROM told;

-- name: child
-- Does:  how a run that was called stands. Nobody ends or removes it until the caller's transaction, which holds its parent, ends.
-- Locks: the run FOR NO KEY UPDATE
SELECT id, flow, manifest_hash, status, error, trigger_body::text AS body FROM flow_runs WHERE id = %(run_id)s FOR NO KEY UPDATE;

-- name: forget_children
-- Does:  the steps of a run that call flows, and wait to be opened, call new runs.
UPDATE flow_steps SET child_run_id = NULL
 WHERE run_id = %(run_id)s AND kind = 'flow' AND status = 'blocked' AND child_run_id IS NOT NULL;

-- name: call
-- Does:  a step that calls a flow: where it stands, and its child.
SELECT status, attempts, child_run_id FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: call_parked
-- Does:  a call of a flow waits for its next try, with a new child. The caller holds the run.
-- In:    run_id, step_key, delay, error
WITH step AS (
  UPDATE flow_steps
     SET status = 'waiting', wake_at = flow_now() + %(delay)s, failures = failures + 1
   WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = 'running'
  RETURNING run_id, step_key, attempts, wake_at
)
INSERT INTO flow_events (run_id, type, step_key, attempt, facts)
SELECT run_id, 'step.retry_scheduled', step_key, attempts,
       json_build_object('due_at', wake_at, 'delay_s', extract(epoch FROM %(delay)s::interval), 'error', %(error)s::text)
  FROM step;

-- name: postpone_calls
-- Does:  calls of flows, which wait for nothing, wait for a transaction that starts their runs. The caller holds the run.
-- In:    run_id, step_keys, from_states
-- Out:   step_key of each; those that were waiting already among them, but none that has called a run before: for it a wait is a
--        retry of its own
WITH step AS (
  UPDATE flow_steps SET status = 'waiting', wake_at = flow_now()
   WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s) AND status = ANY (%(from_states)s) AND child_run_id IS NULL
  RETURNING step_key
)
SELECT step_key FROM step
UNION ALL
SELECT step_key FROM flow_steps WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s) AND status = 'waiting';

-- name: untold
-- Does:  a page of runs that have ended, and whose parents were not told.
-- In:    page, begin, begin_run
-- Out:   at, run_id, step_key, manifest_hash: of the parent
-- Index: ix_flow_runs_untold
SELECT ended_at::text AS at, id AS run_id, parent_step_key AS step_key, parent_run_id,
       (SELECT manifest_hash FROM flow_runs p WHERE p.id = r.parent_run_id) AS manifest_hash
  FROM flow_runs r
 WHERE NOT parent_told AND ended_at IS NOT NULL AND (ended_at, id) > (%(begin)s::timestamptz, %(begin_run)s::uuid)
 ORDER BY ended_at, id LIMIT %(page)s;

-- name: children_to_stop
-- Does:  a page of open runs that a step of a halted run waits for: of one parent, or of all.
-- In:    parent (or null), page
-- Index: ix_flow_runs_parent, ix_flow_runs_untold
SELECT c.id, p.id AS parent, p.halt, p.error
  FROM flow_runs c,
       LATERAL (SELECT id, halt, error FROM flow_runs WHERE id = c.parent_run_id AND halt IS NOT NULL OFFSET 0) AS p
 WHERE NOT c.parent_told AND c.ended_at IS NULL AND c.halt IS NULL
   AND (%(parent)s::uuid IS NULL OR c.parent_run_id = %(parent)s::uuid)
 ORDER BY c.id LIMIT %(page)s;

-- name: open_below
-- Does:  some runs below a run that have not ended, the nearest first: what it called, and what those called.
-- In:    run_id, limit
-- Index: ix_flow_runs_parent
WITH RECURSIVE below AS (
  SELECT id, flow, manifest_hash FROM flow_runs WHERE parent_run_id = %(run_id)s AND ended_at IS NULL
  UNION ALL
  SELECT c.id, c.flow, c.manifest_hash
    FROM below,
         LATERAL (SELECT id, flow, manifest_hash FROM flow_runs WHERE parent_run_id = below.id AND ended_at IS NULL OFFSET 0) AS c
)
SELECT id, flow, manifest_hash FROM below LIMIT %(limit)s;

-- name: tree_of
-- Does:  the runs below a run, level by level: the first ones that each called, in the order of their starts.
-- In:    run_id, each (of one run), limit (of all)
-- Index: ix_flow_runs_parent
WITH RECURSIVE below AS (
  SELECT %(run_id)s::uuid AS id, NULL::uuid AS parent, NULL::text AS flow, NULL::text AS step, NULL::text AS status
  UNION ALL
  SELECT c.id, c.parent_run_id, c.flow, c.parent_step_key, c.status
    FROM below,
         LATERAL (SELECT id, parent_run_id, flow, parent_step_key, status::text AS status FROM flow_runs
                   WHERE parent_run_id = below.id ORDER BY id LIMIT %(each)s) AS c
)
SELECT id, parent, flow, step, CASE WHEN status = 'running' AND flow_parked(id) THEN 'waiting' ELSE status END AS status
  FROM below OFFSET 1 LIMIT %(limit)s;

-- name: children_of
-- Does:  a page of the runs that a run called, in the order of their starts; those of one of its steps, or all.
-- In:    run_id, step_key (or null), begin_run (the last run of the page before), page
-- Index: ix_flow_runs_parent
SELECT id, flow, parent_step_key AS step, CASE WHEN status = 'running' AND flow_parked(id) THEN 'waiting' ELSE status END AS status
  FROM flow_runs
 WHERE parent_run_id = %(run_id)s AND (%(step_key)s::text IS NULL OR parent_step_key = %(step_key)s::text)
   AND id > %(begin_run)s::uuid
 ORDER BY id LIMIT %(page)s;
