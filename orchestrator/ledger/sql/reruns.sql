-- name: rerun_source
-- Does:  what a new run is made of. Its run is neither retried nor removed until the caller's transaction ends.
-- In:    run_id
-- Locks: the run FOR KEY SHARE
SELECT id, flow, manifest_hash, status, trigger_body::text AS body, trigger_headers::text AS headers, tags
  FROM flow_runs WHERE id = %(run_id)s FOR KEY SHARE;

-- name: keep_steps
-- Does:  the run takes over what is kept of its source: steps that succeeded, with their outputs and who sent what they
--        waited for, and steps that were skipped. What
--        it was made of, and by whom, stands on its first event. Its steps were all inserted as BLOCKED, in this transaction.
-- In:    run_id, source_id, kept and settled (step keys), reason, marked (what is in the reason of a step that an operator
--        marked), facts (JSON, of the event)
-- Locks: the caller holds the run, and its source FOR KEY SHARE
WITH made AS (
  UPDATE flow_runs SET source_run_id = %(source_id)s WHERE id = %(run_id)s
), told AS (
  UPDATE flow_events SET facts = %(facts)s::json WHERE run_id = %(run_id)s AND type = 'run.accepted'
), senders AS (
  INSERT INTO flow_signal_waiters (run_id, step_key, signal, key, kind, deadline, signal_id, delivered_by, delivered_at, created_at,
                                   closed_at, title, assignee, shown)
  SELECT %(run_id)s, step_key, signal, key, kind, deadline, signal_id, delivered_by, delivered_at, created_at,
         COALESCE(closed_at, flow_now()), title, assignee, shown
    FROM flow_signal_waiters WHERE run_id = %(source_id)s AND step_key = ANY (%(kept)s::text[])
), owned AS (
  INSERT INTO flow_payloads (run_id, owner_id) SELECT %(run_id)s, owner_id FROM flow_payloads WHERE run_id = %(source_id)s
), copied AS (
  INSERT INTO flow_outputs (run_id, step_key, output, store, reference, size_bytes, sha256)
  SELECT %(run_id)s, step_key, output, store, reference, size_bytes, sha256
    FROM flow_outputs WHERE run_id = %(source_id)s AND step_key = ANY (%(kept)s::text[])
)
UPDATE flow_steps s
   SET status = CASE WHEN s.step_key = ANY (%(kept)s::text[]) THEN 'succeeded' ELSE 'skipped' END, deps_open = 0,
       reason = concat_ws(': ', %(reason)s::text, before.reason), ended_at = flow_now()
  FROM unnest(%(kept)s::text[] || %(settled)s::text[]) AS k(step_key),
       LATERAL (SELECT CASE WHEN status = 'skipped' OR strpos(reason, %(marked)s) > 0 THEN reason END AS reason FROM flow_steps
                 WHERE run_id = %(source_id)s AND step_key = k.step_key OFFSET 0) AS before
 WHERE s.run_id = %(run_id)s AND s.step_key = k.step_key AND s.status = 'blocked';

-- name: reruns_of
-- Does:  the last runs that were made of a run, the newest first.
-- In:    run_id, limit
-- Index: ix_flow_runs_source
SELECT id FROM flow_runs WHERE source_run_id = %(run_id)s ORDER BY id DESC LIMIT %(limit)s;
