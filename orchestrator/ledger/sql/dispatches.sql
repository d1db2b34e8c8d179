-- name: outstanding
-- Does:  counts what should be in the broker, per list.
-- Index: ix_flow_steps_ready
SELECT queue, priority, count(*) AS ready FROM flow_steps WHERE queued GROUP BY queue, priority;

-- name: lost
-- Does:  the oldest ready steps of a list whose message is suspected lost, to be published again. Each publication doubles the
--        patience, up to ten minutes, so that a message a busy worker holds is hardly ever sent twice. Steps that no live worker
--        can run wait: a worker without the handler would only drop the message.
-- In:    queue, priorities, missing, after, unpublished_after, worker_ttl
-- Out:   the dispatches
-- Time:  flow_now()        Index: ix_flow_steps_ready
WITH handler AS MATERIALIZED (
  SELECT DISTINCT unnest(handlers) AS task FROM flow_workers WHERE seen_at > flow_now() - %(worker_ttl)s
), page AS MATERIALIZED (
  SELECT d.run_id, d.step_key, d.dispatch_no
    FROM flow_steps s
    JOIN flow_step_dispatches d ON d.run_id = s.run_id AND d.step_key = s.step_key AND d.dispatch_no = s.dispatch_no
   WHERE s.queued AND s.queue = %(queue)s AND s.priority = ANY (%(priorities)s)
     AND CASE WHEN d.published_at IS NULL THEN d.created_at < flow_now() - %(unpublished_after)s
              ELSE d.published_at < flow_now() - LEAST(%(after)s * power(2, LEAST(d.publish_count - 1, 20)), interval '10 min')
         END
     AND s.task IN (SELECT task FROM handler)
   ORDER BY s.ready_at
   LIMIT %(missing)s
     FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE flow_step_dispatches d
   SET published_at = flow_now(), publish_count = d.publish_count + 1
  FROM page
 WHERE d.run_id = page.run_id AND d.step_key = page.step_key AND d.dispatch_no = page.dispatch_no
RETURNING d.run_id, d.step_key, d.dispatch_no, d.task, d.queue, d.priority;

-- name: confirm
-- Does:  notes that the broker took the first message of each dispatch.
-- In:    run_ids, step_keys, numbers
UPDATE flow_step_dispatches d
   SET published_at = flow_now(), publish_count = 1
  FROM unnest(%(run_ids)s::uuid[], %(step_keys)s::text[], %(numbers)s::int[]) AS t(run_id, step_key, number)
 WHERE d.run_id = t.run_id AND d.step_key = t.step_key AND d.dispatch_no = t.number AND d.published_at IS NULL;
