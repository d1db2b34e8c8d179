-- name: claim_store
-- Does:  makes a payload store the ledger's, if it has none.
-- In:    id
-- Out:   one row if this one became it
INSERT INTO flow_payload_stores (id) SELECT %(id)s WHERE NOT EXISTS (SELECT FROM flow_payload_stores) ON CONFLICT (one) DO NOTHING
RETURNING id;

-- name: ledgers_store
SELECT id FROM flow_payload_stores;

-- name: forget_store
DELETE FROM flow_payload_stores RETURNING id;

-- name: own_payloads
-- Does:  notes, before a payload is written, that the run has some: they are removed with it.
-- In:    run_id, store, ttl (of workers), in_output (whether the flow's output reads the step)
-- Out:   one row; none = there is no such run. `called`: a step waits for what the flow returns, and will read it while its run
--        is held; `strangers`: live workers that do not have this store. With either nothing is noted, nor to be written
-- Locks: the run FOR KEY SHARE
WITH run AS MATERIALIZED (
  SELECT id, parent_run_id IS NOT NULL AND %(in_output)s AS called FROM flow_runs WHERE id = %(run_id)s FOR KEY SHARE
), strangers AS MATERIALIZED (
  SELECT count(*)::int AS n FROM flow_workers
   WHERE seen_at > flow_now() - %(ttl)s AND payload_store IS DISTINCT FROM %(store)s
), noted AS (
  INSERT INTO flow_payloads (run_id, owner_id) SELECT id, id FROM run CROSS JOIN strangers WHERE n = 0 AND NOT called
  ON CONFLICT (run_id, owner_id) DO NOTHING
)
SELECT called, n AS strangers FROM run CROSS JOIN strangers;

-- name: point_output
-- Does:  says where the output of a step is that was just recorded, without it.
-- In:    run_id, step_key, store, reference, size, sha256
UPDATE flow_outputs SET store = %(store)s, reference = %(reference)s, size_bytes = %(size)s, sha256 = %(sha256)s
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: removable_payloads
-- Does:  forgets which removed runs had payloads that other runs still have, and finds runs whose payloads nobody has any more.
--        An attempt that was under way when its run was removed may write for `grace` yet.
-- In:    grace, page
-- Out:   owner_id (the run whose attempts wrote them)
-- Index: ix_flow_payloads_removed
WITH page AS MATERIALIZED (
  SELECT DISTINCT owner_id FROM flow_payloads WHERE removed_at < (SELECT flow_now() - %(grace)s) ORDER BY owner_id LIMIT %(page)s
), used AS MATERIALIZED (
  SELECT DISTINCT owner_id FROM flow_payloads WHERE owner_id IN (SELECT owner_id FROM page) AND removed_at IS NULL
), gone AS (
  DELETE FROM flow_payloads WHERE owner_id IN (SELECT owner_id FROM used) AND removed_at IS NOT NULL
)
SELECT owner_id FROM page EXCEPT SELECT owner_id FROM used;

-- name: payloads_removed
-- Does:  forgets a run whose payloads were removed.
-- In:    owner_id
DELETE FROM flow_payloads WHERE owner_id = %(owner_id)s AND removed_at IS NOT NULL;
