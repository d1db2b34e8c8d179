-- name: claim
-- Does:  the one door into RUNNING for a dispatched step: new fence version, new attempt, which is the claim itself.
-- In:    run_id, step_key, number (dispatch), owner, lease_for (interval), accepted (manifest hashes; null: any)
-- Out:   one row; none = the message is a duplicate or stale, the run is halted or over, or of a version that is not accepted
--        What the step needs comes with it, but for large values: together they may be longer than a value may be, and many
--        children need the same
--        A step that polls has this event for its first poll only
-- Locks: run FOR KEY SHARE (a cancel's FOR UPDATE waits for claims under way, and claims wait for it), then the step, then its claim
-- Time:  flow_now()        Index: primary keys
WITH run AS MATERIALIZED (
  SELECT id, flow, manifest_hash, trigger_body, trigger_type, trace_context
    FROM flow_runs
   WHERE id = %(run_id)s AND status IN ('pending', 'running') AND halt IS NULL
       AND (%(accepted)s::text[] IS NULL OR manifest_hash = ANY (%(accepted)s))
     FOR KEY SHARE
), step AS (
  UPDATE flow_steps s
     SET status = 'running', queued = FALSE, queue_deadline = NULL, /*+ taken when=TRUE */
    FROM run
   WHERE s.run_id = %(run_id)s AND s.step_key = %(step_key)s AND s.status = 'ready' AND s.dispatch_no = %(number)s
  RETURNING s.*
), /*+ claim_given of=step */, /*+ run_begun of=claimed */, event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT %(run_id)s, 'run.started', NULL, NULL FROM begun
  [[UNION ALL
  SELECT %(run_id)s, 'step.started', %(step_key)s, attempts FROM step WHERE polls = 0]]
)
SELECT run.flow, run.manifest_hash, step.type, step.task, step.queue, step.priority, step.loop_index, step.item,
       claimed.version, claimed.attempt, claimed.expires_at, claimed.stop_at, run.trigger_type, run.trace_context,
       EXTRACT(epoch FROM claimed.expires_at - %(lease_for)s - step.ready_at)::float8 AS queue_wait_s,
       CASE WHEN '@' = ANY (step.needs) AND pg_column_size(run.trigger_body) < 32768 THEN run.trigger_body END AS trigger_body,
       CASE WHEN step.needs <> '{}' AND step.needs <> '{@}'
            THEN (SELECT json_object_agg(o.step_key, o.output) FROM flow_outputs o
                   WHERE o.run_id = %(run_id)s AND o.step_key = ANY (step.needs) AND pg_column_size(o.output) < 32768) END AS outputs,
       CASE WHEN claimed.version IS NULL THEN flow_refuse('live claim on a ready step') END AS refused
  FROM run CROSS JOIN step LEFT JOIN claimed ON TRUE;

-- name: suppressed
-- Does:  counts a message that found nothing to claim, where people look for it. One of a version that is not accepted is not
--        counted: somebody else has yet to act on it.
-- In:    run_id, step_key, number, accepted (as for `claim`)
-- Out:   manifest_hash, and whether it is accepted; none = there is no such run any more
WITH run AS MATERIALIZED (
  SELECT manifest_hash, %(accepted)s::text[] IS NULL OR manifest_hash = ANY (%(accepted)s) AS accepted
    FROM flow_runs WHERE id = %(run_id)s
), counted AS (
  UPDATE flow_step_dispatches d SET suppressed = d.suppressed + 1
    FROM run
   WHERE run.accepted AND d.run_id = %(run_id)s AND d.step_key = %(step_key)s AND d.dispatch_no = %(number)s
)
SELECT manifest_hash, accepted FROM run;

-- name: owned
-- Does:  finds the live claim of this owner on a step, after a commit whose outcome is unknown.
-- In:    run_id, step_key, owner
-- Out:   the row of `claim`, or none
SELECT run.flow, run.manifest_hash, step.type, step.task, step.queue, step.priority, step.loop_index, step.item,
       c.version, c.attempt, c.expires_at, c.stop_at, run.trigger_type, run.trace_context,
       COALESCE(EXTRACT(epoch FROM c.claimed_at - step.ready_at), 0)::float8 AS queue_wait_s,
       CASE WHEN '@' = ANY (step.needs) AND pg_column_size(run.trigger_body) < 32768 THEN run.trigger_body END AS trigger_body,
       (SELECT json_object_agg(o.step_key, o.output) FROM flow_outputs o
         WHERE o.run_id = step.run_id AND o.step_key = ANY (step.needs) AND pg_column_size(o.output) < 32768) AS outputs
  FROM flow_step_claims c
  JOIN flow_steps step ON step.run_id = c.run_id AND step.step_key = c.step_key
  JOIN flow_runs run ON run.id = c.run_id
 WHERE c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.owner = %(owner)s AND c.expires_at IS NOT NULL
   AND step.status = 'running';

-- part: output_columns
step_key, output,
CASE WHEN output IS NULL AND reference IS NOT NULL
     THEN json_build_object('store', store, 'reference', reference, 'size', size_bytes, 'sha256', sha256) END AS payload

-- name: outputs
-- Does:  reads outputs by key. A predecessor that finished while the caller's last statement ran is visible here.
-- In:    run_id, step_keys
-- Out:   step_key, output, payload (where the output is instead, if it is not null)
SELECT /*+ output_columns */ FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s);

-- name: output_marks
-- Does:  what changes when an output is replaced, by key.
-- In:    run_id, step_keys
SELECT step_key, xmin::text AS mark FROM flow_outputs WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s);

-- name: trigger_body
SELECT trigger_body FROM flow_runs WHERE id = %(run_id)s;

-- name: trigger_headers
SELECT trigger_headers FROM flow_runs WHERE id = %(run_id)s;

-- name: renew
-- Does:  prolongs live claims, stores progress, brings back whether the run was halted. One statement for a whole process.
-- In:    run_ids, step_keys, versions, progress (arrays; JSON text or null), lease
-- Out:   one row per claim asked for; alive is false when the version was superseded or ended
-- Locks: the claims, in key order
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(%(run_ids)s::uuid[], %(step_keys)s::text[], %(versions)s::bigint[], %(progress)s::text[])
                AS t(run_id, step_key, version, progress)
), held AS (
  SELECT c.run_id, c.step_key FROM flow_step_claims c JOIN asked USING (run_id, step_key, version)
   WHERE c.expires_at IS NOT NULL ORDER BY c.run_id, c.step_key FOR NO KEY UPDATE OF c
), renewed AS (
  UPDATE flow_step_claims c
     SET renewed_at = flow_now(), expires_at = flow_now() + %(lease)s, progress = COALESCE(a.progress::json, c.progress)
    FROM held JOIN asked a USING (run_id, step_key)
   WHERE c.run_id = held.run_id AND c.step_key = held.step_key AND c.version = a.version AND c.expires_at IS NOT NULL
  RETURNING c.run_id, c.step_key
)
SELECT a.run_id, a.step_key, a.version, n.run_id IS NOT NULL AS alive, r.halt IS NOT NULL AS halted
  FROM asked a
  LEFT JOIN renewed n ON n.run_id = a.run_id AND n.step_key = a.step_key
  LEFT JOIN flow_runs r ON r.id = a.run_id;
