-- part: recorded
-- The fence, then the four rows that record a success. `run` must be there and give a row.
fence AS (
  /*+ claim_ended from=FROM run; which=/*+ own_claim */ */
), done AS (
  UPDATE flow_steps s
     SET status = 'succeeded', ended_at = flow_now()
    FROM fence
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = 'running'
  RETURNING fence.*, s.ready_at, s.ended_at
), output AS (
  INSERT INTO flow_outputs (run_id, step_key, output)
  SELECT %(run_id)s, %(step_key)s, %(output)s::json FROM done
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
), attempt AS (
  /*+ attempt_ended of=done; at=ended_at; status='succeeded'; columns=inputs; values=%(inputs)s::json */
)

-- part: followed
-- The next step's claim or dispatch, with its events. `next` holds the step after its counter went down.
/*+ claim_given of=next WHERE status = 'running' */, sent AS (
  /*+ dispatched of=next WHERE status = 'ready' */
)[[, event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt FROM done
  UNION ALL
  /*+ next_events */
)]]

-- part: next_events
SELECT %(run_id)s, 'step.started', step_key, attempt FROM claimed
UNION ALL
SELECT %(run_id)s, 'step.dispatched', step_key, NULL FROM next WHERE status = 'ready'

-- part: next_facts
next.step_key AS next_key, next.status AS next_status, next.dispatch_no, next.task, next.queue, next.priority, next.loop_index,
       CASE WHEN claimed.version IS NOT NULL THEN next.item END AS item,
       claimed.version, claimed.attempt AS next_attempt, claimed.expires_at, claimed.stop_at,
       CASE WHEN next.status = 'running' AND claimed.version IS NULL THEN flow_refuse('live claim on a blocked step')
            END AS refused

-- part: successor
-- The only, plain successor loses a predecessor; it is claimed (`chain`) or made READY when that was the last.
-- In:    by (one row: the predecessor ended); parameters: run_id, next_key, chain
UPDATE flow_steps s
   SET deps_open = s.deps_open - 1, /*+ taken when=s.deps_open = 1 AND %(chain)s */,
       (/*+ ready_columns */) = (/*+ made_ready when=s.deps_open = 1 AND NOT %(chain)s;
         otherwise=CASE WHEN s.deps_open = 1 THEN 'running' ELSE 'blocked' END; number=s.dispatch_no; limit=s.queue_timeout */)
  FROM {by}
 WHERE s.run_id = %(run_id)s AND s.step_key = %(next_key)s AND s.status = 'blocked'
RETURNING s.*

-- part: successor_refused
CASE WHEN next.deps_open = 0 AND next.deps_unmet > 0 THEN flow_refuse('successor must be skipped')
     WHEN {by}.run_id IS NOT NULL AND next.step_key IS NULL THEN flow_refuse('successor does not wait') END

-- name: finish_mid
-- Does:  records a success and takes one predecessor off its only, plain successor; claims that for the same worker
--        (`chain`) or dispatches it.
-- In:    run_id, step_key, version, owner, output, inputs, next_key, chain, lease_for
-- Out:   one row; attempt is null when nothing was written: stale, or the run is halted (then the general path decides)
-- Refuses: a successor that must be skipped, or that ran already (this step was retried after its failure was handled)
-- Locks: run FOR KEY SHARE, own claim, own step, the successor
-- Time:  flow_now()        Index: primary keys
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), /*+ recorded */, next AS (
  /*+ successor by=done */
), /*+ followed */
SELECT done.attempt, /*+ next_facts */,
       /*+ successor_refused by=done */ AS unmet
  FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN next ON TRUE LEFT JOIN claimed ON TRUE;

-- name: finish_open
-- Does:  records a success and opens its only successor, a loop over the list that its output is, or has at `path`; claims
--        the first child for the same worker (`chain`). Wide loops, which take time, are opened on the general path.
-- In:    run_id, step_key, version, owner, output, inputs, path, short (items at most), chain, lease_for; and for `opened` and
--        `children`
-- Out:   a row for each child that may go; attempt is null when nothing was written
-- Refuses: a loop that waits for others too, or must be skipped; what is not a list of 1 to `short` items
-- Locks: run FOR KEY SHARE, own claim, own step, the loop's step
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), /*+ recorded */, given AS MATERIALIZED (
  SELECT %(output)s::json #> %(path)s::text[] AS items FROM done
), list AS MATERIALIZED (
  SELECT items FROM given WHERE CASE WHEN json_typeof(items) = 'array' THEN json_array_length(items) BETWEEN 1 AND %(short)s END
), opened AS (
  /*+ opened also=deps_open = 0,; which=s.status = 'blocked' AND s.deps_open = 1 AND s.deps_unmet = 0 */
), next AS (
  /*+ children takes=%(chain)s */
), /*+ claim_given of=next WHERE status = 'running' */, sent AS (
  /*+ dispatched of=next WHERE status = 'ready' */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt, facts)
  [[SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt, NULL FROM done
  UNION ALL]]
  /*+ expanded attempt=NULL::int, */
  [[UNION ALL
  SELECT %(run_id)s, 'step.started', step_key, attempt, NULL FROM claimed]]
)
SELECT done.attempt, /*+ next_facts */,
       CASE WHEN done.attempt IS NOT NULL AND next.step_key IS NULL THEN flow_refuse('loop does not open') END AS shut
  FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN next ON next.status <> 'blocked'
  LEFT JOIN claimed ON claimed.step_key = next.step_key;

-- name: finish_general
-- Does:  records a success on the general path: the caller holds the run, and looks at what follows in later statements.
-- In:    run_id, step_key, version, owner, output, inputs
-- Out:   one row; attempt is null when nothing was written: stale
-- Locks: own claim, own step
WITH run AS (SELECT), /*+ recorded */[[, event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt FROM done
)]]
SELECT done.attempt FROM (SELECT) AS one LEFT JOIN done ON TRUE;

-- name: finish_sink
-- Does:  records a success of a step without successors; ends the run when it was the last.
-- In:    run_id, step_key, version, owner, output, inputs
-- Out:   one row; attempt is null when nothing was written; run_status, run_took and parent_told are set when the run ended
-- Locks: run FOR NO KEY UPDATE, own claim, own step
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR NO KEY UPDATE
), /*+ recorded */, counted AS (
  UPDATE flow_runs r
     SET sinks_open = r.sinks_open - 1,
         status = CASE WHEN r.sinks_open > 1 THEN r.status WHEN r.failures = 0 THEN 'succeeded' ELSE 'failed' END,
         ended_at = CASE WHEN r.sinks_open > 1 THEN NULL ELSE flow_now() END
    FROM done
   WHERE r.id = %(run_id)s
  RETURNING r.id, r.status, r.sinks_open, r.controlled, r.parent_told, r.ended_at - r.created_at AS took
), ended AS (
  SELECT id, status, controlled, parent_told, took FROM counted WHERE sinks_open = 0
), /*+ run_ended of=ended; before=[[SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt FROM done UNION ALL]] */
SELECT done.attempt, ended.status AS run_status, ended.took AS run_took, ended.parent_told FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN ended ON TRUE;

-- name: finish_child
-- Does:  records a success of a loop's child and counts it on the loop's row; lets the next child in when the loop has a
--        window, and claims that for the same worker (`chain`) or dispatches it. Never reads a sibling.
-- In:    run_id, step_key, version, owner, output, inputs, loop_key, body_key, chain, lease_for
-- Out:   one row; attempt is null when nothing was written
-- Refuses: the last child (the loop's own end needs the run lock: the general path)
-- Locks: run FOR KEY SHARE, own claim, own step, the loop's step, the next child
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), /*+ recorded */, loop AS (
  UPDATE flow_steps s
     SET children_open = s.children_open - 1, children_next = s.children_next + 1
    FROM done
   WHERE s.run_id = %(run_id)s AND s.step_key = %(loop_key)s AND s.status = 'running'
  RETURNING s.children_open, s.children_next
), next AS (
  UPDATE flow_steps s
     SET /*+ taken when=%(chain)s */,
         (/*+ ready_columns */) = (/*+ made_ready when=NOT %(chain)s; otherwise='running'; number=s.dispatch_no; limit=s.queue_timeout */)
   WHERE s.run_id = %(run_id)s AND s.status = 'blocked'
     AND s.step_key = (SELECT %(loop_key)s || '.' || (loop.children_next - 1) || '.' || %(body_key)s FROM loop)
  RETURNING s.*
), /*+ followed */
SELECT done.attempt, /*+ next_facts */,
       CASE WHEN loop.children_open = 0 THEN flow_refuse('last child')
            WHEN loop.children_next <= 0 THEN flow_refuse('window without a pointer')
            WHEN done.attempt IS NOT NULL AND loop.children_open IS NULL THEN flow_refuse('loop is not open') END AS last
  FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN loop ON TRUE LEFT JOIN next ON TRUE LEFT JOIN claimed ON TRUE;

-- name: finish_item
-- Does:  records a success of the last step of an item, ends the item with its output and counts it on the loop's row; lets the next
--        item in when the loop has a window, and claims its first step for the same worker (`chain`) or dispatches it.
-- In:    run_id, step_key, version, owner, output, inputs, item_key, result (the item's output), loop_key, chain, lease_for; and for
--        `item_steps`
-- Out:   one row; attempt is null when nothing was written
-- Refuses: an item with a failure, or stopped with its loop, or with more that has not ended; the last item; a next one that was in before
-- Locks: run FOR KEY SHARE, own claim, own step, the item's step, the loop's step, the next item's: in the order of the general path
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), /*+ recorded */, ended AS (
  UPDATE flow_steps s
     SET status = 'succeeded', children_open = 0, ended_at = flow_now()
    FROM done
   WHERE s.run_id = %(run_id)s AND s.step_key = %(item_key)s AND s.status = 'running' AND s.children_open = 1
     AND s.children_failed = 0 AND s.reason IS NULL
  RETURNING s.step_key
), result AS (
  INSERT INTO flow_outputs (run_id, step_key, output) SELECT %(run_id)s, step_key, %(result)s::json FROM ended
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
), loop AS (
  UPDATE flow_steps s
     SET children_open = s.children_open - 1, children_next = s.children_next + 1
    FROM ended
   WHERE s.run_id = %(run_id)s AND s.step_key = %(loop_key)s AND s.status = 'running'
  RETURNING s.children_open, s.children_next
), item AS (
  UPDATE flow_steps s
     SET status = 'running', started_at = flow_now(), children_failed = 0,
         children_open = CASE WHEN s.children_open IS NULL THEN 1 ELSE flow_refuse('item was in before') END
   WHERE s.run_id = %(run_id)s AND s.status = 'blocked'
     AND s.step_key = (SELECT %(loop_key)s || '.' || (children_next - 1) FROM loop)
  RETURNING s.step_key, s.loop_index, s.item
), step AS (
  /*+ item_steps of=item */
), next AS (
  SELECT * FROM step WHERE status <> 'blocked'
), /*+ claim_given of=next WHERE status = 'running' */, sent AS (
  /*+ dispatched of=next WHERE status = 'ready' */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  [[SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt FROM done
  UNION ALL]]
  SELECT %(run_id)s, 'step.succeeded', step_key, NULL FROM ended
  [[UNION ALL
  /*+ next_events */]]
)
SELECT done.attempt, /*+ next_facts */,
       CASE WHEN loop.children_open = 0 THEN flow_refuse('last item')
            WHEN loop.children_next <= 0 THEN flow_refuse('window without a pointer')
            WHEN done.attempt IS NOT NULL AND loop.children_open IS NULL THEN flow_refuse('item does not end') END AS last
  FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN loop ON TRUE LEFT JOIN next ON TRUE LEFT JOIN claimed ON TRUE;

-- name: finish_last
-- Does:  records a success of the last open child of a loop, ends the loop with the ordered list of its children's outputs, and
--        takes one predecessor off its only, plain successor; claims that for the same worker (`chain`) or dispatches it.
--        Wide loops and large lists, which take time, are closed on the general path.
-- In:    run_id, step_key, version, owner, output, inputs, index (the child's), loop_key, body_key, short (children at most),
--        short_bytes, next_key, chain, lease_for
-- Out:   one row; attempt is null when nothing was written
-- Refuses: a child that is not the last, a loop with failed children, a wide one; and what `finish_mid` does
-- Locks: run FOR KEY SHARE, own claim, own step, the loop's step, the successor
--        Nobody locks the siblings: if this one is the only open child in the snapshot, all their outputs are in it too.
WITH run AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE id = %(run_id)s AND halt IS NULL FOR KEY SHARE
), /*+ recorded */, loop AS (
  UPDATE flow_steps s
     SET status = 'succeeded', children_open = 0, ended_at = flow_now()
    FROM done
   WHERE s.run_id = %(run_id)s AND s.step_key = %(loop_key)s AND s.status = 'running' AND s.children_open = 1 AND s.children_failed = 0
     AND (SELECT children_open = 1 AND children_failed = 0 FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(loop_key)s)
     AND NOT EXISTS (SELECT FROM flow_steps
                      WHERE run_id = %(run_id)s AND step_key = concat(%(loop_key)s::text, '.', %(short)s::int, '.', %(body_key)s::text))
  RETURNING s.run_id
), child AS MATERIALIZED (
  /*+ child_outputs */ AND s.step_key <> %(step_key)s AND EXISTS (SELECT FROM loop)
  UNION ALL
  SELECT %(index)s, %(output)s::json
), list AS (
  INSERT INTO flow_outputs (run_id, step_key, output)
  SELECT run_id, %(loop_key)s, (SELECT json_agg(output ORDER BY loop_index) FROM child)
    FROM loop WHERE (SELECT sum(pg_column_size(output)) FROM child) <= %(short_bytes)s
  ON CONFLICT (run_id, step_key) DO UPDATE SET output = excluded.output, created_at = flow_now()
  RETURNING run_id
), next AS (
  /*+ successor by=list */
), /*+ claim_given of=next WHERE status = 'running' */, sent AS (
  /*+ dispatched of=next WHERE status = 'ready' */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  [[SELECT %(run_id)s, 'step.succeeded', %(step_key)s, attempt FROM done
  UNION ALL]]
  SELECT run_id, 'step.succeeded', %(loop_key)s, NULL FROM list
  [[UNION ALL
  /*+ next_events */]]
)
SELECT done.attempt, /*+ next_facts */, /*+ successor_refused by=list */ AS unmet,
       CASE WHEN done.attempt IS NOT NULL AND list.run_id IS NULL THEN flow_refuse('loop does not end') END AS open
  FROM (SELECT) AS one LEFT JOIN done ON TRUE LEFT JOIN list ON TRUE LEFT JOIN next ON TRUE LEFT JOIN claimed ON TRUE;

-- name: recorded
-- Does:  tells, after a commit whose outcome is unknown, whether this very attempt was recorded, and by whom.
-- In:    run_id, step_key, attempt
SELECT a.status, a.version, a.owner, r.status AS run_status, r.ended_at - r.created_at AS run_took, r.parent_told
  FROM /*+ attempts_of step=%(step_key)s */ AS a JOIN flow_runs r ON r.id = %(run_id)s
 WHERE a.attempt = %(attempt)s;

-- name: undelivered
-- Does:  the dispatches that a finish whose outcome was unknown inserted, and that no message is known for: rows that the
--        same transaction wrote carry the same xmin.
-- In:    run_id, step_key, attempt (the finished one)
SELECT d.run_id, d.step_key, d.dispatch_no, d.task, d.queue, d.priority
  FROM flow_step_attempts a
  JOIN flow_steps s ON s.run_id = a.run_id AND s.queued
  JOIN flow_step_dispatches d ON d.run_id = s.run_id AND d.step_key = s.step_key AND d.dispatch_no = s.dispatch_no
 WHERE a.run_id = %(run_id)s AND a.step_key = %(step_key)s AND a.attempt = %(attempt)s
   AND d.published_at IS NULL AND d.xmin = a.xmin;

-- name: chained
-- Does:  the claim that a finish whose outcome was unknown took for the same owner. Not just any live claim of that owner: a
--        worker with threads may run other steps of this run. Rows that the same transaction wrote carry the same xmin.
-- In:    run_id, step_key, attempt (the finished one), owner
SELECT c.step_key
  FROM flow_step_attempts a
  JOIN flow_step_claims c ON c.run_id = a.run_id AND c.step_key <> a.step_key
 WHERE a.run_id = %(run_id)s AND a.step_key = %(step_key)s AND a.attempt = %(attempt)s
   AND c.owner = %(owner)s AND c.expires_at IS NOT NULL AND c.xmin = a.xmin;
