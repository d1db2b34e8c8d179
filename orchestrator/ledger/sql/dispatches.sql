-- part: overdue
-- Whether the message of dispatch `d` is suspected lost.
CASE WHEN d.published_at IS NULL THEN d.created_at < flow_now() - %(unpublished_after)s
     ELSE d.published_at < flow_now() - LEAST(%(after)s * power(2, LEAST(d.publish_count - 1, 20)), interval '10 min') END

-- name: outstanding
-- Does:  counts what should be in the broker, per list, up to `most` of each queue and priority: a million ready steps cost no more
--        than ten thousand. The lists are found by going from one to the next in the index.
-- In:    most (null: count all)
-- Index: ix_flow_steps_ready
WITH RECURSIVE list AS (
  (SELECT queue, priority FROM flow_steps WHERE queued ORDER BY queue, priority LIMIT 1)
  UNION ALL
  SELECT n.queue, n.priority
    FROM list l, LATERAL (SELECT s.queue, s.priority FROM flow_steps s
                           WHERE s.queued AND (s.queue, s.priority) > (l.queue, l.priority)
                           ORDER BY s.queue, s.priority LIMIT 1) AS n
)
SELECT l.queue, l.priority, c.ready
  FROM list l, LATERAL (SELECT count(*) AS ready
                          FROM (SELECT FROM flow_steps s WHERE s.queued AND s.queue = l.queue AND s.priority = l.priority
                                 LIMIT %(most)s::bigint) AS counted) AS c;

-- name: lost
-- Does:  the oldest ready steps of a list whose message is suspected lost, to be published again. Each publication doubles the
--        wait, up to ten minutes, so that a message a busy worker holds is hardly ever sent twice. Steps that no live worker
--        can run wait: a worker without the handler, or whose handler does not fit the version, would only drop it. Lists are first
--        in, first out, so the oldest are looked at first: `window` steps of each priority that became ready after `begin`, whether
--        or not anybody can run them, however long the backlog is.
-- In:    queue, priorities, missing, window, begin (null: from the oldest one on), after, unpublished_after, worker_ttl
-- Out:   the dispatches; then a row with `begin` alone, for the steps behind these; null when there are none
-- Time:  flow_now()        Index: ix_flow_steps_ready
WITH handler AS MATERIALIZED (
  SELECT DISTINCT unnest(handlers) AS task FROM flow_workers WHERE seen_at > flow_now() - %(worker_ttl)s
), refused AS MATERIALIZED (
  SELECT left(pair, -65) AS task, right(pair, 64) AS hash
    FROM (SELECT DISTINCT jsonb_object_keys(refuses) AS pair FROM flow_workers WHERE seen_at > flow_now() - %(worker_ttl)s) AS r
   WHERE NOT EXISTS (SELECT FROM flow_workers w WHERE w.seen_at > flow_now() - %(worker_ttl)s
                        AND left(pair, -65) = ANY (w.handlers) AND NOT jsonb_exists(w.refuses, pair))
), oldest AS MATERIALIZED (
  SELECT p.priority, s.*
    FROM unnest(%(priorities)s::int[]) AS p(priority),
         LATERAL (SELECT run_id, step_key, dispatch_no, task, ready_at FROM flow_steps
                   WHERE queued AND queue = %(queue)s AND flow_steps.priority = p.priority
                     AND ready_at > COALESCE(%(begin)s::timestamptz, '-infinity')
                   ORDER BY ready_at FETCH FIRST (%(window)s) ROWS WITH TIES) AS s
), found AS MATERIALIZED (
  SELECT d.run_id, d.step_key, d.dispatch_no
    FROM oldest s,
         LATERAL (SELECT * FROM flow_step_dispatches
                   WHERE run_id = s.run_id AND step_key = s.step_key AND dispatch_no = s.dispatch_no OFFSET 0) AS d
   WHERE s.task = ANY (ARRAY(SELECT task FROM handler))  -- asked of each step before its dispatch is looked up
     AND (NOT s.task = ANY (ARRAY(SELECT task FROM refused))
          OR NOT EXISTS (SELECT FROM refused f WHERE f.task = s.task
                            AND f.hash = (SELECT manifest_hash FROM flow_runs WHERE id = s.run_id)))
     AND /*+ overdue */
   ORDER BY s.ready_at
   LIMIT %(missing)s
), page AS MATERIALIZED (
  SELECT d.run_id, d.step_key, d.dispatch_no
    FROM found JOIN flow_step_dispatches d USING (run_id, step_key, dispatch_no)
   WHERE /*+ overdue */
     FOR NO KEY UPDATE OF d SKIP LOCKED
), sent AS (
  UPDATE flow_step_dispatches d
     SET published_at = flow_now(), publish_count = d.publish_count + 1
    FROM page
   WHERE d.run_id = page.run_id AND d.step_key = page.step_key AND d.dispatch_no = page.dispatch_no
  RETURNING d.run_id, d.step_key, d.dispatch_no, d.task, d.queue, d.priority
)
SELECT run_id, step_key, dispatch_no, task, queue, priority, NULL::timestamptz AS begin FROM sent
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
       (SELECT min(last) FROM (SELECT max(ready_at) AS last FROM oldest GROUP BY priority HAVING count(*) >= %(window)s) AS full_ones);

-- name: wake
-- Does:  what waits for code that a worker has just brought is to be published again: ready steps that no worker fits that came
--        before it, on queues where one that does not fit may have put a message aside. Of workers that come together the first one does it. What was published since it came is left out, so it is
--        asked again until nothing is left. The oldest `window` steps of each of its queues are looked at.
-- In:    id (of the worker), page, window, worker_ttl
-- Out:   the dispatches
-- Locks: dispatches, waiting for none
-- Time:  flow_now()        Index: ix_flow_steps_ready
WITH me AS MATERIALIZED (
  SELECT started_at, queues, handlers, refuses FROM flow_workers WHERE id = %(id)s
), earlier AS MATERIALIZED (
  SELECT w.queues, w.handlers, w.refuses, w.seen_at > flow_now() - %(worker_ttl)s AND w.stopping_at IS NULL AS live
    FROM flow_workers w, me
   WHERE (w.started_at, w.id) < (me.started_at, %(id)s)
), page AS MATERIALIZED (
  SELECT d.run_id, d.step_key, d.dispatch_no
    FROM me, unnest(me.queues) AS q(queue),
         LATERAL (SELECT run_id, step_key, dispatch_no, task FROM flow_steps
                   WHERE queued AND flow_steps.queue = q.queue ORDER BY priority, ready_at LIMIT %(window)s) AS s,
         LATERAL (SELECT s.task || '@' || manifest_hash AS pair FROM flow_runs WHERE id = s.run_id OFFSET 0) AS r,
         flow_step_dispatches d
   WHERE s.task = ANY (me.handlers) AND NOT jsonb_exists(me.refuses, r.pair)
     AND (SELECT bool_or(NOT fits) AND bool_and(NOT (fits AND e.live))
            FROM earlier e, LATERAL (SELECT s.task = ANY (e.handlers) AND NOT jsonb_exists(e.refuses, r.pair) AS fits) AS one
           WHERE q.queue = ANY (e.queues))
     AND d.run_id = s.run_id AND d.step_key = s.step_key AND d.dispatch_no = s.dispatch_no
     AND COALESCE(d.published_at, d.created_at) < me.started_at
   LIMIT %(page)s
     FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE flow_step_dispatches d
   SET published_at = flow_now(), publish_count = d.publish_count + 1
  FROM page
 WHERE d.run_id = page.run_id AND d.step_key = page.step_key AND d.dispatch_no = page.dispatch_no
RETURNING d.run_id, d.step_key, d.dispatch_no, d.task, d.queue, d.priority;

-- name: confirm
-- Does:  notes that the broker took the first message of each dispatch that is still waiting to be claimed: nobody asks about others.
-- In:    run_ids, step_keys, numbers
UPDATE flow_step_dispatches d
   SET published_at = flow_now(), publish_count = 1
  FROM unnest(%(run_ids)s::uuid[], %(step_keys)s::text[], %(numbers)s::int[]) AS t(run_id, step_key, number)
  JOIN flow_steps s ON s.run_id = t.run_id AND s.step_key = t.step_key AND s.dispatch_no = t.number AND s.queued
 WHERE d.run_id = t.run_id AND d.step_key = t.step_key AND d.dispatch_no = t.number AND d.published_at IS NULL;
