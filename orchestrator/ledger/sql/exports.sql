-- name: exported_attempts
-- Does:  a page of the attempts of a run that ended, by step and number.
-- In:    run_id, step_key and attempt (the last ones of the page before), limit
-- Index: primary key
SELECT step_key, attempt, version, owner, status, error_type, error_message, error_traceback, inputs, queue_wait, started_at, ended_at
  FROM flow_step_attempts
 WHERE run_id = %(run_id)s AND ended_at IS NOT NULL AND (step_key, attempt) > (%(step_key)s, %(attempt)s)
 ORDER BY step_key, attempt LIMIT %(limit)s;

-- name: exported_outputs
-- Does:  a page of what the steps of a run returned, by step.
-- In:    run_id, step_key (the last one of the page before), limit
-- Index: primary key
SELECT /*+ output_columns */ FROM flow_outputs
 WHERE run_id = %(run_id)s AND step_key > %(step_key)s ORDER BY step_key LIMIT %(limit)s;
