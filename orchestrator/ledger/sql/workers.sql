-- name: hello
INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release)
VALUES (%(id)s, %(host)s, %(pid)s, %(pool)s, %(concurrency)s, %(prefetch)s, %(queues)s, %(handlers)s, %(release)s)
ON CONFLICT (id) DO UPDATE SET seen_at = flow_now(), queues = excluded.queues, handlers = excluded.handlers;

-- name: seen
-- Out:   one row; none = the row is gone (retention, restored backup): say hello again
UPDATE flow_workers SET seen_at = flow_now(), consumed_at = CASE WHEN %(consuming)s THEN flow_now() ELSE consumed_at END
 WHERE id = %(id)s
RETURNING id;

-- name: gone
DELETE FROM flow_workers WHERE id = %(id)s;

-- name: bury
-- Does:  forgets workers that were not seen for a day.
DELETE FROM flow_workers WHERE seen_at < flow_now() - interval '1 day';
