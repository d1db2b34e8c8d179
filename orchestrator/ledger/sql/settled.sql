-- name: settle_step
-- Does:  a step that nobody holds ends by the word of an operator: skipped, or succeeded with an output.
-- In:    run_id, step_key, status, output (JSON, or null: none), reason, type and facts (of the event), from_states
-- Out:   one row; none = the step is not in a state this may leave
-- Locks: the caller holds the run FOR UPDATE
WITH step AS (
  UPDATE flow_steps
     SET status = %(status)s, /*+ left_off reason=%(reason)s */
   WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = ANY (%(from_states)s)
  RETURNING step_key
), put AS (
  INSERT INTO flow_outputs (run_id, step_key, output)
  SELECT %(run_id)s, step_key, %(output)s::json FROM step WHERE %(output)s::json IS NOT NULL
  ON CONFLICT (run_id, step_key) DO UPDATE
     SET output = excluded.output, store = NULL, reference = NULL, size_bytes = NULL, sha256 = NULL, created_at = flow_now()
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, facts) SELECT %(run_id)s, %(type)s, step_key, %(facts)s::json FROM step
)
SELECT step_key FROM step;
