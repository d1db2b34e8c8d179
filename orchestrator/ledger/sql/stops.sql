-- A loop stops at the failure of a child: what did not begin, or only waits, is SKIPPED. The caller holds the run row.

-- part: stopped
-- Of all that belongs to a loop, what did not begin, or waits, is SKIPPED, and its waits are closed. What is being claimed, or made
-- READY, at this moment goes on.
-- In:    which (of it); parameters: run_id, loop_key, reason
idle AS MATERIALIZED (
  SELECT step_key, loop_key, status FROM flow_steps
   WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s::text || '.' AND step_key < %(loop_key)s::text || '/'
     AND {which} AND status IN ('blocked', 'ready', 'waiting')
   ORDER BY step_key FOR NO KEY UPDATE SKIP LOCKED
), step AS (
  UPDATE flow_steps
     SET status = 'skipped', /*+ left_off reason=%(reason)s::text */
   WHERE run_id = %(run_id)s AND step_key IN (SELECT step_key FROM idle)
  RETURNING step_key
), /*+ waits_closed of=step */, event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts)
  SELECT %(run_id)s, 'step.skipped', step_key, json_build_object('reason', %(reason)s::text) FROM step
)

-- name: stop_loop
-- Does:  children of a loop are stopped, because another one failed, and the window lets nobody in any more.
-- In:    run_id, loop_key, reason
-- Out:   how many children were, and how many are open still
-- Locks: the loop's row first (the caller counted on it), as `finish_child`, which lets one in; then the children
WITH /*+ stopped which=loop_key = %(loop_key)s::text */
UPDATE flow_steps SET children_open = children_open - (SELECT count(*) FROM step), children_next = NULL
 WHERE run_id = %(run_id)s AND step_key = %(loop_key)s::text
RETURNING (SELECT count(*) FROM step) AS skipped, children_open;

-- name: hold_loops_inside
-- Does:  waits for what is under way with loops inside of the items of a loop, so that they let nobody in any more.
-- In:    run_id, loop_key
-- Locks: these loops, before anything inside of them: whoever holds one waits for its children only
SELECT step_key FROM flow_steps
 WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s::text || '.' AND step_key < %(loop_key)s::text || '/'
   AND kind = 'loop' AND status IN ('blocked', 'running')
 ORDER BY step_key FOR NO KEY UPDATE;

-- name: stop_inside
-- Does:  what is inside of the items of a loop that were let in is stopped.
-- In:    run_id, loop_key, reason
-- Out:   those that were, what each is a part of (an item, or a loop inside of one), and where it stood
-- Locks: the steps, waiting for none of them
WITH /*+ stopped which=loop_key <> %(loop_key)s::text */
SELECT step_key, loop_key, status FROM idle;

-- name: count_stopped
-- Does:  takes what was stopped inside of items and loops off their counts, and marks them: they end as SKIPPED, unless they fail.
-- In:    run_id, step_keys, ended (array of counts), reason
-- Out:   how many are open in each, and failed
UPDATE flow_steps s
   SET children_open = s.children_open - t.ended, children_next = NULL,
       reason = CASE WHEN s.children_failed = 0 THEN %(reason)s::text ELSE s.reason END
  FROM unnest(%(step_keys)s::text[], %(ended)s::int[]) AS t(step_key, ended)
 WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s::text[]) AND s.step_key = t.step_key AND s.status = 'running'
RETURNING s.step_key, s.children_open, s.children_failed;

-- name: stopped_by
-- Does:  of these loops, one that stopped at a failure, in this epoch of the run: the child that failed.
-- In:    run_id, loop_keys, retried (bool: there was an epoch before)
SELECT l.step_key AS loop_key, c.loop_index
  FROM flow_steps l,
       LATERAL (SELECT loop_index FROM flow_steps
                 WHERE run_id = %(run_id)s AND step_key >= l.step_key || '.' AND step_key < l.step_key || '/'
                   AND loop_key = l.step_key AND status IN ('failed', 'cancelled')
                   AND (NOT %(retried)s OR ended_at > (SELECT max(at) FROM flow_events WHERE run_id = %(run_id)s AND type = 'run.retried'))
                 ORDER BY loop_index LIMIT 1 OFFSET 0) AS c
 WHERE l.run_id = %(run_id)s AND l.step_key = ANY (%(loop_keys)s) AND l.children_failed > 0
 ORDER BY l.step_key LIMIT 1;

-- name: stopped_inside
-- Does:  steps inside of these items, or loops, that were skipped because a loop around them stopped.
-- In:    run_id, step_keys, stopped (how the reason begins)
SELECT s.step_key
  FROM unnest(%(step_keys)s::text[]) AS i(key),
       LATERAL (SELECT step_key FROM flow_steps
                 WHERE run_id = %(run_id)s AND step_key >= i.key || '.' AND step_key < i.key || '/' AND status = 'skipped'
                   AND starts_with(reason, %(stopped)s) OFFSET 0) AS s;

-- name: items_to_mend
-- Does:  items of a loop that are under way, and in which something failed, or was stopped.
-- In:    run_id, loop_key, stopped (how the reason begins)
SELECT i.step_key
  FROM (SELECT DISTINCT %(loop_key)s::text || '.' || split_part(substr(step_key, length(%(loop_key)s::text) + 2), '.', 1) AS key
          FROM flow_steps
         WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s::text || '.' AND step_key < %(loop_key)s::text || '/'
           AND (status = 'running' AND kind IN ('item', 'loop') AND children_failed > 0
                OR status = 'skipped' AND starts_with(reason, %(stopped)s))) AS found,
       LATERAL (SELECT step_key, loop_index FROM flow_steps
                 WHERE run_id = %(run_id)s AND step_key = found.key AND status = 'running' AND kind = 'item' OFFSET 0) AS i
 ORDER BY i.loop_index;
