-- part: operation_columns
-- Does:  an operation, with its outcomes counted while it goes on
o.id, o.action, o.wanted, o.options, o.reason, o.by, o.state, o.total, o.foreseen, o.left_out, o.changed_by, o.changed_at,
o.created_at, o.ended_at, COALESCE(o.counts, (/*+ outcomes_counted operation=o.id */)) AS counts

-- part: outcomes_counted
SELECT COALESCE(json_object_agg(c.outcome, c.n), '{}') FROM (
  SELECT outcome, count(*) AS n FROM flow_operation_runs WHERE operation_id = {operation} GROUP BY outcome) AS c

-- name: free_operation_key
-- Does:  takes an idempotency key from an operation that was made a day ago: it starts a new one.
UPDATE flow_operations SET request_key = NULL WHERE request_key = %(key)s AND created_at < flow_now() - interval '1 day';

-- name: add_operation
-- Out:   its id; none = there is one of that id or key already
INSERT INTO flow_operations (id, action, wanted, options, reason, by, state, total, foreseen, left_out, request_key, request_hash)
VALUES (%(id)s, %(action)s, %(wanted)s, %(options)s, %(reason)s, %(by)s, 'running', 0, %(foreseen)s, %(left_out)s, %(key)s, %(hash)s)
ON CONFLICT DO NOTHING RETURNING id;

-- name: operation_asked_before
-- In:    id, key (or null)
SELECT id, request_hash FROM flow_operations WHERE id = %(id)s OR request_key = %(key)s;

-- name: add_operation_ids
-- Does:  lists runs that were named; whether there are such is seen when their turn comes.
-- In:    operation_id, run_ids
INSERT INTO flow_operation_runs (operation_id, run_id)
SELECT %(operation_id)s, id FROM unnest(%(run_ids)s::uuid[]) AS id ON CONFLICT DO NOTHING;

-- name: count_operation
-- Does:  writes down how many runs were listed.
UPDATE flow_operations SET total = (SELECT count(*) FROM flow_operation_runs WHERE operation_id = %(operation_id)s)
 WHERE id = %(operation_id)s
RETURNING total;

-- name: operation
SELECT /*+ operation_columns */ FROM flow_operations AS o WHERE o.id = %(operation_id)s;

-- name: operations
-- Does:  the operations made before `last` (null: all), the newest first.
-- In:    last (id), open (bool: only those that go on), limit
SELECT /*+ operation_columns */ FROM flow_operations AS o
 WHERE (%(last)s::uuid IS NULL OR o.id < %(last)s::uuid) AND (NOT %(open)s OR o.ended_at IS NULL)
 ORDER BY o.id DESC LIMIT %(limit)s;

-- name: operations_beginning
-- In:    low, high (32 hexadecimal digits)
SELECT id FROM flow_operations WHERE id BETWEEN %(low)s::uuid AND %(high)s::uuid ORDER BY id LIMIT 5;

-- name: operations_ending
-- Does:  a few operations whose id ends with these digits. There are few enough to read all.
-- In:    ending (hexadecimal digits, no dashes)
SELECT id FROM flow_operations
 WHERE right(replace(id::text, '-', ''), length(%(ending)s::text)) = %(ending)s::text ORDER BY id DESC LIMIT 5;

-- name: operation_runs
-- Does:  a page of what became of its runs, in the order of their ids.
-- In:    operation_id, last (run id; null: from the first), outcome (null: any), limit
-- Index: primary key
SELECT run_id, outcome, detail, tries, at FROM flow_operation_runs
 WHERE operation_id = %(operation_id)s AND (%(last)s::uuid IS NULL OR run_id > %(last)s::uuid)
   AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s::text)
 ORDER BY run_id LIMIT %(limit)s;

-- name: operations_due
-- Does:  some runs of each operation that goes on, whose turn it is: a long one does not keep a short one waiting. One without a run
--        whose turn it is has a row as well, with run_id null.
-- In:    count (operations), limit (runs of each)
-- Time:  flow_now()        Index: ix_flow_operations_running, ix_flow_operation_runs_pending
SELECT o.id AS operation_id, o.action, o.options, o.reason, o.by, r.run_id
  FROM (SELECT id, action, options, reason, by FROM flow_operations WHERE state = 'running' ORDER BY id LIMIT %(count)s) AS o
  LEFT JOIN LATERAL (SELECT run_id FROM flow_operation_runs
                      WHERE operation_id = o.id AND outcome = 'pending' AND due_at <= (SELECT flow_now())
                      ORDER BY due_at, run_id LIMIT %(limit)s) AS r ON TRUE
 ORDER BY o.id, r.run_id;

-- name: take_operation_run
-- Does:  writes down that it is done, before it is, in the same transaction. Whoever pauses or cancels the operation waits until that
--        is committed, and nothing is begun after it.
-- In:    operation_id, run_id
-- Out:   its id; none = somebody else did it, or the operation does not go on
-- Locks: the operation FOR SHARE, then this row; runs come after
WITH held AS MATERIALIZED (
  SELECT id FROM flow_operations WHERE id = %(operation_id)s AND state = 'running' FOR SHARE
)
UPDATE flow_operation_runs r SET outcome = 'done', detail = NULL, at = flow_now()
  FROM held WHERE r.operation_id = held.id AND r.run_id = %(run_id)s AND r.outcome = 'pending'
RETURNING r.run_id;

-- name: leave_operation_run
-- In:    operation_id, run_id, detail
UPDATE flow_operation_runs SET outcome = 'left_out', detail = %(detail)s, at = flow_now()
 WHERE operation_id = %(operation_id)s AND run_id = %(run_id)s AND outcome = 'pending';

-- name: postpone_operation_run
-- Does:  counts a try that ended with an error. The next one comes later each time; after `most` there is none.
-- In:    operation_id, run_id, detail, most
UPDATE flow_operation_runs
   SET tries = tries + 1, detail = %(detail)s, due_at = flow_now() + power(2, tries) * interval '1 second',
       outcome = CASE WHEN tries + 1 >= %(most)s THEN 'failed' ELSE 'pending' END,
       at = CASE WHEN tries + 1 >= %(most)s THEN flow_now() END
 WHERE operation_id = %(operation_id)s AND run_id = %(run_id)s AND outcome = 'pending';

-- name: hold_operation
-- Locks: the operation FOR UPDATE: no act on a run of it is under way
SELECT state FROM flow_operations WHERE id = %(operation_id)s FOR UPDATE;

-- name: any_pending
SELECT EXISTS (SELECT FROM flow_operation_runs WHERE operation_id = %(operation_id)s AND outcome = 'pending') AS found;

-- name: move_operation
-- Does:  gives it another state; with `over` it ends, and its outcomes are counted for good. The caller holds it.
-- In:    operation_id, state, by (null: nobody asked), over (bool)
UPDATE flow_operations
   SET state = %(state)s, changed_by = COALESCE(%(by)s, changed_by),
       changed_at = CASE WHEN %(by)s::text IS NULL THEN changed_at ELSE flow_now() END,
       ended_at = CASE WHEN %(over)s THEN flow_now() END,
       counts = CASE WHEN %(over)s THEN (/*+ outcomes_counted operation=%(operation_id)s */) END
 WHERE id = %(operation_id)s;

-- name: drop_operations
-- Does:  removes operations that ended long ago, a few at a time, with the outcomes of their runs.
-- In:    ttl, page
-- Out:   how many
-- Time:  flow_now()        Index: ix_flow_operations_ended
WITH page AS MATERIALIZED (
  SELECT id FROM flow_operations WHERE ended_at < (SELECT flow_now() - %(ttl)s)
   ORDER BY ended_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), runs AS (
  DELETE FROM flow_operation_runs r USING page WHERE r.operation_id = page.id
), gone AS (
  DELETE FROM flow_operations o USING page WHERE o.id = page.id RETURNING o.id
)
SELECT count(*) AS removed FROM gone;
