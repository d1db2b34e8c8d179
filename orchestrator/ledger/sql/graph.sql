-- The general path: the caller holds the run row, so each statement sees what the one before wrote.
-- Where steps are found by a join, a planner that knows only short runs may read all steps of the run for each of them. What is
-- written for a child or a whole loop names the keys as a list or a subquery, or looks them up one by one: LATERAL with OFFSET 0.

-- name: lock_run
-- Does:  locks a run for changes of its graph. First lock of every general path.
-- Locks: run FOR NO KEY UPDATE (claims go on)
SELECT id, flow, manifest_hash, status, halt, epoch, sinks_open, failures, controlled, trigger_type
  FROM flow_runs WHERE id = %(run_id)s FOR NO KEY UPDATE;

-- name: lock_free_runs
-- Does:  as `lock_run`, for those of these runs that nobody holds.
-- In:    run_ids
-- Locks: runs FOR NO KEY UPDATE, waiting for none of them
SELECT id, flow, manifest_hash, status, halt, epoch, sinks_open, failures, controlled, trigger_type
  FROM flow_runs WHERE id = ANY (%(run_ids)s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED;

-- name: lock_run_against_claims
-- Does:  locks a run so that claims under way are waited for, and later ones see what this transaction writes.
-- Locks: run FOR UPDATE
SELECT id, flow, manifest_hash, status, halt, epoch, sinks_open, failures, controlled, trigger_type
  FROM flow_runs WHERE id = %(run_id)s FOR UPDATE;

-- name: end_claim
-- Does:  the fence: ends a live claim if it is still at this version.
-- In:    run_id, step_key, version, owner (null: whoever holds it), expired (bool: only if its lease ran out)
-- Out:   its attempt, or no row: stale
/*+ claim_ended from=; which=c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.version = %(version)s
  AND c.owner = COALESCE(%(owner)s, c.owner) AND (NOT %(expired)s OR c.expires_at < flow_now()) */;

-- name: end_attempt
-- Does:  writes down how the attempt of a claim ended, right after the claim.
-- In:    run_id, step_key, attempt, status, error_type, error_message, error_traceback, error_fingerprint, inputs
WITH ended AS MATERIALIZED (
  SELECT c.*, s.ready_at FROM flow_step_claims c JOIN flow_steps s USING (run_id, step_key)
   WHERE c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.attempt = %(attempt)s
)
/*+ attempt_ended of=ended; at=flow_now(); status=%(status)s; columns=error_type, error_message, error_traceback,
  error_fingerprint, inputs; values=%(error_type)s, %(error_message)s, %(error_traceback)s, %(error_fingerprint)s, %(inputs)s::json */
/*+ or_written_before */;

-- name: end_step
-- In:    run_id, step_key, status, reason, failed (0 or 1), crashed (0 or 1), from_states
-- Out:   one row; none = the step is not in a state this may leave
UPDATE flow_steps
   SET status = %(status)s, /*+ left_off reason=%(reason)s */, failures = failures + %(failed)s, crashes = crashes + %(crashed)s
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s)
RETURNING step_key;

-- name: park
-- Does:  RUNNING to WAITING until a due time.
-- In:    run_id, step_key, delay, from_states
UPDATE flow_steps
   SET status = 'waiting', due_at = flow_now() + %(delay)s, failures = failures + 1
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s)
RETURNING due_at, polls;

-- name: ready
-- Does:  makes steps READY with a new dispatch each.
-- In:    run_id, step_keys, from_states
-- Out:   the dispatches
WITH step AS (
  UPDATE flow_steps s
     SET (/*+ ready_columns */) = (/*+ made_ready when=TRUE; otherwise=NULL; number=s.dispatch_no; limit=s.queue_timeout */)
   WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s) AND s.status = ANY (%(from_states)s)
  RETURNING run_id, step_key, dispatch_no, task, queue, priority
), dispatch AS (
  /*+ dispatched of=step */
)[[, event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.dispatched', step_key FROM step
)]]
SELECT * FROM step;

-- name: predecessors_ended
-- Does:  takes ended predecessors off the steps that wait for them. What becomes of those is decided by the caller.
-- In:    run_id, step_keys, ended and unmet (arrays of counts: predecessors that ended, and those that ended otherwise than asked)
-- Out:   the steps that were waiting, with what is left
UPDATE flow_steps s
   SET deps_open = s.deps_open - t.ended, deps_unmet = s.deps_unmet + t.unmet
  FROM unnest(%(step_keys)s::text[], %(ended)s::int[], %(unmet)s::int[]) AS t(step_key, ended, unmet)
 WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s::text[]) AND s.step_key = t.step_key AND s.status = 'blocked'
RETURNING s.step_key, s.deps_open, s.deps_unmet;

-- name: skip
-- Does:  steps that can never run are SKIPPED, however many, each for a reason.
-- In:    run_id, step_keys, reasons and facts (arrays: text, and JSON of the event), from_states
-- Out:   those that were
WITH step AS (
  UPDATE flow_steps s
     SET status = 'skipped', /*+ left_off reason=t.reason */
    FROM unnest(%(step_keys)s::text[], %(reasons)s::text[]) AS t(step_key, reason)
   WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s::text[]) AND s.step_key = t.step_key
     AND s.status = ANY (%(from_states)s)
  RETURNING s.step_key
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT %(run_id)s, 'step.skipped', step_key, facts
    FROM step JOIN unnest(%(step_keys)s::text[], %(facts)s::json[]) AS t(step_key, facts) USING (step_key)
)
SELECT step_key FROM step;

-- name: withdraw
-- Does:  steps that a decided race needs no more are SKIPPED. One that is being taken at this moment runs on.
-- In:    run_id, step_keys, reason, facts (JSON of the event), from_states
-- Out:   those that were
-- Locks: the steps, waiting for none of them
WITH free AS MATERIALIZED (
  SELECT step_key FROM flow_steps
   WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s) AND status = ANY (%(from_states)s) FOR NO KEY UPDATE SKIP LOCKED
), step AS (
  UPDATE flow_steps s
     SET status = 'skipped', /*+ left_off reason=%(reason)s */
   WHERE s.run_id = %(run_id)s AND s.step_key IN (SELECT step_key FROM free)
  RETURNING s.step_key
), /*+ waits_closed of=step */, event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT %(run_id)s, 'step.withdrawn', step_key, %(facts)s::json FROM step
)
SELECT step_key FROM step;

-- name: succeed
-- Does:  a step without a handler (a merge, a requirement, a call of a flow, an item) succeeds with this output. It replaces
--        that of an earlier epoch.
-- In:    run_id, step_key, output, from_states
-- Out:   one row; none = it is in another state
WITH step AS (
  UPDATE flow_steps s
     SET status = 'succeeded', ended_at = flow_now(), due_at = NULL, wake_at = NULL
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = ANY (%(from_states)s)
  RETURNING s.step_key
), put AS (
  INSERT INTO flow_outputs (run_id, step_key, output) SELECT %(run_id)s, step_key, %(output)s::json FROM step
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
), event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT %(run_id)s, 'step.succeeded', step_key FROM step
)
SELECT step_key FROM step;

-- name: set_needs
UPDATE flow_steps SET needs = %(needs)s WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: needs
SELECT needs FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: step_statuses
SELECT step_key, status FROM flow_steps WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s);

-- name: take
-- Does:  claims a step that was waiting for the caller's own step, for the caller. What `finish_mid` does, on the general path.
-- In:    run_id, step_key, owner, lease_for
-- Out:   the step and its claim
WITH next AS (
  UPDATE flow_steps s
     SET status = 'running', ready_at = NULL, /*+ taken when=TRUE */
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = 'blocked'
  RETURNING s.*
), /*+ claim_given of=next */[[, event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT %(run_id)s, 'step.started', step_key, attempt FROM claimed
)]]
SELECT /*+ next_facts */ FROM next LEFT JOIN claimed ON TRUE;

-- name: take_time
-- Does:  lets the statements of this transaction that handle a whole run or loop take five minutes. On a busy machine 800,000
--        children are opened, cancelled or reset in half a minute; what were cut off could never be opened, or never be stopped.
SET LOCAL statement_timeout = '5min';

-- name: loop_items
-- Does:  says whether a loop's list is one, without reading it into Python.
-- In:    run_id, source (step key, or null for the trigger body), path
-- Out:   kind and length of what stands there
SELECT json_typeof(found) AS kind, CASE WHEN json_typeof(found) = 'array' THEN json_array_length(found) END AS length
  FROM (SELECT (SELECT output FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = %(source)s::text) #> %(path)s::text[] AS found
         WHERE %(source)s::text IS NOT NULL
        UNION ALL
        SELECT trigger_body #> %(path)s::text[] FROM flow_runs WHERE id = %(run_id)s AND %(source)s::text IS NULL) AS list;

-- part: opened
-- A loop that becomes RUNNING, with a child to come for each item.
-- In:    also (more columns), which (its condition); a row `list` with `items`; parameters: run_id, loop_key, let_in
UPDATE flow_steps s
   SET status = 'running', {also} started_at = flow_now(), children_open = json_array_length(list.items), children_failed = 0,
       children_next = CASE WHEN %(let_in)s::int < json_array_length(list.items) THEN %(let_in)s::int END
  FROM list
 WHERE s.run_id = %(run_id)s AND s.step_key = %(loop_key)s::text AND {which}
RETURNING list.items

-- part: children
-- The children of a loop that was `opened`, the first `let_in` of them READY; or the first of all taken by the caller.
-- In:    takes (does it?); parameters: run_id, loop_key, body_key, position, type, task, queue, priority, timeout,
--        queue_timeout, needs, let_in
INSERT INTO flow_steps (run_id, step_key, position, kind, type, task, loop_key, loop_index, item, queue, priority, timeout,
                        queue_timeout, needs, attempts, started_at, /*+ ready_columns */)
SELECT %(run_id)s, %(loop_key)s::text || '.' || (n - 1) || '.' || %(body_key)s::text, %(position)s::int, 'task', %(type)s::text,
       %(task)s::text, %(loop_key)s::text, n - 1, item, %(queue)s::text, %(priority)s::int, %(timeout)s::interval,
       %(queue_timeout)s::interval, %(needs)s::text[], taken::int, CASE WHEN taken THEN flow_now() END,
       /*+ made_ready when=(may_go AND NOT taken); otherwise=CASE WHEN taken THEN 'running' ELSE 'blocked' END; number=0;
         limit=%(queue_timeout)s::interval */
  FROM (SELECT item, n, n <= %(let_in)s::int AS may_go, n = 1 AND {takes} AS taken
          FROM opened, json_array_elements(items) WITH ORDINALITY AS t(item, n)) AS one
RETURNING *

-- part: expanded
-- The event of a loop that was `opened`.
SELECT %(run_id)s, 'step.expanded', %(loop_key)s::text, {attempt} json_build_object('children', json_array_length(items)) FROM opened

-- part: listed
-- In:    parameters: run_id, source and path (or items: JSON)
list AS MATERIALIZED (
  SELECT CASE WHEN %(items)s::json IS NOT NULL THEN %(items)s::json
              WHEN %(source)s::text IS NULL THEN (SELECT trigger_body #> %(path)s::text[] FROM flow_runs WHERE id = %(run_id)s)
              ELSE (SELECT output #> %(path)s::text[] FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = %(source)s::text)
         END AS items
)

-- name: expand
-- Does:  opens a loop: one child per item, the first `let_in` of them READY with a dispatch.
-- In:    source and path (or items: JSON), from_states; and for `opened` and `children`
-- Out:   the dispatches
WITH /*+ listed */, opened AS (
  /*+ opened also=; which=s.status = ANY (%(from_states)s) */
), child AS (
  /*+ children takes=FALSE */
), dispatch AS (
  /*+ dispatched of=child WHERE status = 'ready' */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  /*+ expanded attempt= */
)
SELECT run_id, step_key, dispatch_no, task, queue, priority FROM child WHERE status = 'ready';

-- name: open_items
-- Does:  opens a loop with a graph: a row for each item, all of them BLOCKED. What runs for an item is made when it is let in.
-- In:    source and path (or items: JSON), from_states, loop_key, position, queue, priority, let_in
-- Out:   how many items there are; none = the loop is not in a state this may leave
WITH /*+ listed */, opened AS (
  /*+ opened also=; which=s.status = ANY (%(from_states)s) */
), item AS (
  INSERT INTO flow_steps (run_id, step_key, position, kind, loop_key, loop_index, item, queue, priority, /*+ ready_columns */)
  SELECT %(run_id)s, %(loop_key)s::text || '.' || (n - 1), %(position)s::int, 'item', %(loop_key)s::text, n - 1, item,
         %(queue)s::text, %(priority)s::int,
         /*+ made_ready when=FALSE; otherwise='blocked'; number=0; limit=interval '0' */
    FROM opened, json_array_elements(items) WITH ORDINALITY AS t(item, n)
  RETURNING step_key
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  /*+ expanded attempt= */
)
SELECT json_array_length(items) AS items FROM opened;

-- part: item_steps
-- The steps of items that are let in for the first time; one may be READY, or taken by the caller.
-- In:    of (those items), parameters: run_id, rows (JSON: the steps of an item, with chr(31) where they name it)
INSERT INTO flow_steps (run_id, step_key, position, kind, type, task, loop_key, loop_index, item, deps_open, queue, priority,
                        timeout, queue_timeout, needs, attempts, started_at, /*+ ready_columns */)
SELECT %(run_id)s, t.step_key, t.position, t.kind, t.type, t.task, i.step_key, i.loop_index,
       CASE WHEN t.item IS NOT NULL THEN i.item END, t.deps_open, t.queue, t.priority, t.timeout, t.queue_timeout, t.needs,
       t.attempts, CASE WHEN t.attempts > 0 THEN flow_now() END,
       /*+ made_ready when=t.queued; otherwise=t.status; number=0; limit=t.queue_timeout */
  FROM {of} i, json_populate_recordset(NULL::flow_steps, replace(%(rows)s, chr(31), i.step_key)::json) t
RETURNING *

-- name: enter_items
-- Does:  lets items of a loop in: each is RUNNING, with its steps, all BLOCKED. One that was in before has them already.
-- In:    run_id, item_keys, sinks; and for `item_steps`
-- Out:   the items that were BLOCKED, and whether their steps are new
WITH idle AS MATERIALIZED (
  SELECT step_key, loop_index, item, children_open IS NULL AS fresh FROM flow_steps
   WHERE run_id = %(run_id)s AND step_key = ANY (%(item_keys)s) AND status = 'blocked' FOR NO KEY UPDATE
), entered AS (
  UPDATE flow_steps
     SET status = 'running', started_at = COALESCE(started_at, flow_now()), children_open = COALESCE(children_open, %(sinks)s),
         children_failed = COALESCE(children_failed, 0)
   WHERE run_id = %(run_id)s AND step_key = ANY (%(item_keys)s) AND step_key IN (SELECT step_key FROM idle)
), step AS (
  /*+ item_steps of=(SELECT * FROM idle WHERE fresh) */
)
SELECT step_key, fresh FROM idle ORDER BY loop_index;

-- name: waiting_in_items
-- Does:  the steps of items that are BLOCKED, and how many of their edges are open and unmet.
-- In:    run_id, item_keys
SELECT s.step_key, s.deps_open, s.deps_unmet
  FROM unnest(%(item_keys)s::text[]) AS i(key),
       LATERAL (SELECT step_key, deps_open, deps_unmet FROM flow_steps
                 WHERE run_id = %(run_id)s AND step_key >= i.key || '.' AND step_key < i.key || '/' AND loop_key = i.key
                   AND status = 'blocked' OFFSET 0) AS s;

-- name: count_item
-- Does:  counts ended sinks and unhandled failures on an item's row; the reason of the first of these stays, and takes the place of
--        the one of a loop that stopped.
-- In:    run_id, item_key, sinks, failures, reason
UPDATE flow_steps
   SET children_open = children_open - %(sinks)s, children_failed = children_failed + %(failures)s,
       reason = CASE WHEN children_failed = 0 THEN COALESCE(%(reason)s::text, reason) ELSE reason END
 WHERE run_id = %(run_id)s AND step_key = %(item_key)s AND status = 'running'
RETURNING children_open, children_failed, reason;

-- name: any_ran
-- Does:  whether a step of an item was not skipped.
SELECT EXISTS (SELECT FROM flow_steps
                WHERE run_id = %(run_id)s AND step_key >= %(item_key)s || '.' AND step_key < %(item_key)s || '/'
                  AND loop_key = %(item_key)s AND status <> 'skipped') AS ran;

-- name: is_moving
-- Does:  whether an item does anything, or waits for something else than a back-off or its next poll.
SELECT EXISTS (SELECT FROM flow_steps
                WHERE run_id = %(run_id)s AND step_key >= %(item_key)s || '.' AND step_key < %(item_key)s || '/'
                  AND loop_key = %(item_key)s
                  AND (status IN ('ready', 'running') OR (status = 'waiting' AND due_at IS NULL))) AS moving;

-- name: items_of
SELECT step_key, item, loop_index FROM flow_steps WHERE run_id = %(run_id)s AND step_key = ANY (%(item_keys)s);

-- name: child_ended
-- Does:  counts ended children on their loop's row.
-- In:    run_id, loop_key, ended, failed
UPDATE flow_steps
   SET children_open = children_open - %(ended)s, children_failed = children_failed + %(failed)s,
       children_next = CASE WHEN children_next < 0 THEN children_next ELSE children_next + %(ended)s END
 WHERE run_id = %(run_id)s AND step_key = %(loop_key)s::text AND status = 'running'
RETURNING children_open, children_failed, children_next, reason;

-- name: let_in_one_more
-- Does:  moves a loop's window by one, because a child that waits for its back-off needs no place in it.
UPDATE flow_steps SET children_next = CASE WHEN children_next < 0 THEN children_next ELSE children_next + 1 END
 WHERE run_id = %(run_id)s AND step_key = %(loop_key)s AND status = 'running'
RETURNING children_next;

-- name: waiting_children
-- Does:  the first children of a loop that its window keeps out, from index `start` on; the next search begins behind them,
--        so that all searches of a loop together look at each child once.
-- In:    run_id, loop_key, suffix (of their keys, behind the index), start, count
WITH RECURSIVE child AS (
  SELECT step_key, status, loop_index FROM flow_steps
   WHERE run_id = %(run_id)s AND step_key = %(loop_key)s::text || '.' || %(start)s::int || %(suffix)s::text
  UNION ALL
  SELECT s.step_key, s.status, s.loop_index
    FROM child c,
         LATERAL (SELECT step_key, status, loop_index FROM flow_steps
                   WHERE run_id = %(run_id)s
                     AND step_key = %(loop_key)s::text || '.' || (c.loop_index + 1) || %(suffix)s::text OFFSET 0) AS s
), found AS MATERIALIZED (
  SELECT step_key, loop_index FROM child WHERE status = 'blocked' LIMIT %(count)s
), moved AS (
  UPDATE flow_steps l SET children_next = -2 - f.last
    FROM (SELECT max(loop_index) AS last FROM found) AS f
   WHERE l.run_id = %(run_id)s AND l.step_key = %(loop_key)s::text AND f.last IS NOT NULL
)
SELECT step_key FROM found ORDER BY loop_index;

-- name: failed_in_loop
SELECT children_failed FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(loop_key)s;

-- part: child_outputs
-- In:    parameters: run_id, loop_key
SELECT s.loop_index, (SELECT output FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = s.step_key) AS output
  FROM flow_steps s
 WHERE s.run_id = %(run_id)s AND s.step_key >= %(loop_key)s::text || '.' AND s.step_key < %(loop_key)s::text || '/'
   AND s.loop_key = %(loop_key)s::text

-- part: child_outcomes
-- What became of each child. The error is that of its last attempt; where no handler ran, what was `said` of it, unless nobody took
-- it in time; of an item, that of the step for which it failed.
-- In:    a row `said` with `types`, by step; parameters: run_id, loop_key
SELECT s.loop_index,
       json_build_object(
         'ok', s.status = 'succeeded',
         'value', CASE WHEN s.status = 'succeeded'
                       THEN (SELECT output FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = s.step_key) END,
         'error', CASE WHEN s.status NOT IN ('succeeded', 'skipped')
                       THEN json_build_object('step', COALESCE(w.step_key, s.step_key), 'message', COALESCE(w.reason, s.reason),
                                              'type', COALESCE(a.error_type, (SELECT types FROM said) ->> COALESCE(w.step_key, s.step_key),
                                                               CASE w.kind WHEN 'loop' THEN 'LoopFailed' ELSE 'QueueTimeout' END)) END,
         'skipped', CASE WHEN s.status = 'skipped' THEN s.reason END) AS output
  FROM flow_steps s
  LEFT JOIN LATERAL (SELECT step_key, kind, reason, attempts FROM flow_steps
                      WHERE run_id = %(run_id)s AND s.kind = 'item' AND s.status = 'failed'
                        AND step_key >= s.step_key || '.' AND step_key < s.step_key || '/' AND loop_key = s.step_key
                        AND status = 'failed' AND starts_with(s.reason, substr(step_key, length(s.step_key) + 2) || ' failed: ')
                      LIMIT 1 OFFSET 0) AS w ON TRUE
  LEFT JOIN LATERAL (SELECT error_type FROM flow_step_attempts
                      WHERE run_id = %(run_id)s AND step_key = COALESCE(w.step_key, s.step_key)
                        AND attempt = COALESCE(w.attempts, s.attempts) AND s.status = 'failed'
                        AND left(error_message, 2000) = COALESCE(w.reason, s.reason) OFFSET 0) AS a ON TRUE
 WHERE s.run_id = %(run_id)s AND s.step_key >= %(loop_key)s::text || '.' AND s.step_key < %(loop_key)s::text || '/'
   AND s.loop_key = %(loop_key)s::text

-- part: collected
-- Ends a loop with its output: the ordered list of what `child` gives, unless that is longer than a value may be. Replaced when the
-- loop is run again. How long it is, is counted only when what is stored leaves room for doubt: no compression saves more than 255
-- of 256 bytes.
-- In:    a row `child` for each; parameters: run_id, loop_key, limit_bytes
length AS (
  SELECT CASE WHEN (SELECT sum(pg_column_size(output)) FROM child) * 256 > %(limit_bytes)s::bigint
              THEN (SELECT sum(octet_length(output::text) + 2) FROM child) END AS bytes
), put AS (
  INSERT INTO flow_outputs (run_id, step_key, output)
  SELECT %(run_id)s, %(loop_key)s::text, COALESCE((SELECT json_agg(output ORDER BY loop_index) FROM child), '[]')
    FROM length WHERE COALESCE(bytes, 0) <= %(limit_bytes)s::bigint
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
  RETURNING step_key
), ended AS (
  UPDATE flow_steps SET status = 'succeeded', ended_at = flow_now()
    FROM put WHERE run_id = %(run_id)s AND flow_steps.step_key = %(loop_key)s::text AND status = 'running'
), event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT %(run_id)s, 'step.succeeded', step_key FROM put
)
SELECT step_key FROM put

-- name: collect
-- Does:  ends a loop with its children's outputs; null for one that was skipped.
-- In:    run_id, loop_key, limit_bytes
-- Out:   one row; none = the list is too long, and nothing was written
WITH child AS MATERIALIZED (
  /*+ child_outputs */
), /*+ collected */;

-- name: collect_outcomes
-- Does:  ends a loop with what became of each child.
-- In:    run_id, loop_key, limit_bytes, asks (bool: an item failed, perhaps without a handler)
-- Out:   one row; none = the list is too long, and nothing was written
WITH said AS MATERIALIZED (
  SELECT jsonb_object_agg(step_key, facts ->> 'type' ORDER BY id) AS types
    FROM flow_events
   WHERE %(asks)s AND run_id = %(run_id)s AND type = 'step.failed'
     AND step_key >= %(loop_key)s::text || '.' AND step_key < %(loop_key)s::text || '/'
), child AS MATERIALIZED (
  /*+ child_outcomes */
), /*+ collected */;

-- name: failure
-- Does:  why a step failed last, as its run shows it. A loop says only the reason.
SELECT e.step_key AS step, COALESCE(e.facts ->> 'type', 'LoopFailed') AS type,
       COALESCE(e.facts ->> 'message', e.facts ->> 'reason') AS message, a.error_fingerprint AS fingerprint
  FROM flow_events e LEFT JOIN flow_step_attempts a USING (run_id, step_key, attempt)
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND e.type = 'step.failed' ORDER BY e.id DESC LIMIT 1;

-- name: first_failure
-- Does:  the failed child with the lowest index, for the loop's own error.
SELECT s.step_key, a.error_type, a.error_message, s.reason
  FROM (SELECT step_key, attempts, reason FROM flow_steps
         WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s::text || '.' AND step_key < %(loop_key)s::text || '/'
           AND loop_key = %(loop_key)s::text AND status = 'failed'
         ORDER BY loop_index LIMIT 1) AS s
  LEFT JOIN flow_step_attempts a ON a.run_id = %(run_id)s AND a.step_key = s.step_key AND a.attempt = s.attempts;

-- name: count_run
-- Does:  counts ended sinks and unhandled failures on the run.
-- In:    run_id, sinks, failures, error (JSON or null; the first one stays), fingerprint (of the error)
UPDATE flow_runs
   SET sinks_open = sinks_open - %(sinks)s, failures = failures + %(failures)s, error = COALESCE(error, %(error)s::json),
       fingerprint = CASE WHEN error IS NULL THEN %(fingerprint)s ELSE fingerprint END
 WHERE id = %(run_id)s
RETURNING sinks_open, failures;

-- name: end_run
-- Does:  ends a run; an event before that names the signals that it kept and nobody took. Reading `unused` puts it first.
-- In:    run_id, status, error (JSON or null), from_states
-- Out:   one row: how long the run took since it was accepted, and whether nobody waits for its end
WITH run AS (
  UPDATE flow_runs
     SET status = %(status)s::text, ended_at = flow_now(), error = COALESCE(%(error)s::json, error)
   WHERE id = %(run_id)s AND status = ANY (%(from_states)s)
  RETURNING id, status, controlled, parent_told, ended_at - created_at AS took
), unused AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT %(run_id)s, 'signal.unused', json_build_object('count', max(found), 'first', json_agg(one ORDER BY seq))
    FROM (SELECT seq, json_build_object('name', name, 'key', key, 'id', id) AS one, count(*) OVER () AS found
            FROM flow_signals WHERE run_id = (SELECT id FROM run) AND consumed_at IS NULL
              AND (expires_at IS NULL OR expires_at > flow_now())
           ORDER BY seq LIMIT 20) AS kept
  HAVING count(*) > 0
  RETURNING run_id
), /*+ run_ended of=run; before=SELECT run_id, NULL, NULL, NULL::int FROM unused WHERE run_id <> %(run_id)s UNION ALL */
SELECT took, parent_told FROM run;

-- name: any_claimed
-- Does:  whether a handler of this run is still under a live claim, or a run that it called is open.
SELECT EXISTS (SELECT FROM flow_steps s
                WHERE run_id = %(run_id)s AND status = 'running' AND /*+ kind */ IN ('task', 'flow')) AS claimed;

-- name: event
-- In:    run_id, type, step_key, attempt, facts (JSON or null)
INSERT INTO flow_events (run_id, type, step_key, attempt, facts)
VALUES (%(run_id)s, %(type)s, %(step_key)s, %(attempt)s, %(facts)s::json);
