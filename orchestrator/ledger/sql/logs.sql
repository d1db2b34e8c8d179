-- name: write_logs
-- Does:  writes batches of lines, and removes those of the tail that make room for them. What was written already, by a try whose
--        answer was lost, stays. Of a run that was removed nothing is written.
-- In:    batches (JSON)
WITH batch AS MATERIALIZED (
  SELECT b.* FROM json_to_recordset(%(batches)s::json)
    AS b(run_id uuid, step_key text, attempt int, first int, lines json, dropped int[])
), gone AS (
  DELETE FROM flow_step_logs
   WHERE ctid = ANY (ARRAY(
           SELECT old.at FROM batch b, unnest(b.dropped) AS d(first),
                  LATERAL (SELECT l.ctid AS at FROM flow_step_logs l
                            WHERE l.run_id = b.run_id AND l.step_key = b.step_key AND l.attempt = b.attempt AND l.first = d.first
                           OFFSET 0) AS old))
)
INSERT INTO flow_step_logs (run_id, step_key, attempt, first, lines)
SELECT run_id, step_key, attempt, first, lines FROM batch b
 WHERE (SELECT r.id FROM flow_runs r WHERE r.id = b.run_id) IS NOT NULL  -- an EXISTS may be joined by reading all runs
ON CONFLICT DO NOTHING;

-- name: log_batches
-- Does:  a page of batches, by step, attempt and line; those behind a place only.
-- In:    run_id, step_key (null: all steps), after_step, after_attempt, after_first, limit
-- Index: pk_flow_step_logs
SELECT step_key, attempt, first, lines FROM flow_step_logs
 WHERE run_id = %(run_id)s AND (%(step_key)s::text IS NULL OR step_key = %(step_key)s)
   AND (step_key, attempt, first) > (%(after_step)s::text COLLATE "C", %(after_attempt)s::int, %(after_first)s::int)
 ORDER BY step_key, attempt, first LIMIT %(limit)s;

-- name: log_places
-- Does:  the places of all batches of a run, for whoever follows it and knows some.
-- In:    run_id, step_key (null: all steps)
SELECT step_key, attempt, first FROM flow_step_logs
 WHERE run_id = %(run_id)s AND (%(step_key)s::text IS NULL OR step_key = %(step_key)s) ORDER BY written_at, step_key, attempt, first;
