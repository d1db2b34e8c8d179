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
