-- name: hello
INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release, versions, refuses,
                          payload_store, label)
VALUES (%(id)s, %(host)s, %(pid)s, %(pool)s, %(concurrency)s, %(prefetch)s, %(queues)s, %(handlers)s, %(release)s,
        %(versions)s::jsonb, %(refuses)s::jsonb, %(payload_store)s, %(label)s)
ON CONFLICT (id) DO UPDATE SET seen_at = flow_now(), queues = excluded.queues, handlers = excluded.handlers;

-- name: refuse
-- Does:  notes that a worker takes no steps of a task in one version of its flow, and why.
-- In:    id, pair (task@manifest hash), why
UPDATE flow_workers SET refuses = refuses || jsonb_build_object(%(pair)s::text, %(why)s::text)
 WHERE id = %(id)s AND NOT jsonb_exists(refuses, %(pair)s);

-- name: seen
-- In:    id, consuming, stopping (bool)
-- Out:   draining (somebody told it to stop); none = the row is gone (retention, restored backup): say hello again
UPDATE flow_workers
   SET seen_at = flow_now(), consumed_at = CASE WHEN %(consuming)s THEN flow_now() ELSE consumed_at END,
       stopping_at = CASE WHEN %(stopping)s OR drain_at IS NOT NULL THEN COALESCE(stopping_at, flow_now()) END
 WHERE id = %(id)s
RETURNING drain_at IS NOT NULL AS draining;

-- name: meant
-- Does:  live processes that are called so, locked: by their id, their host, or the release of their code; or that take from no
--        other queues than these.
-- In:    target, queues, ttl
SELECT id, drain_at, stopping_at FROM flow_workers
 WHERE (%(target)s::text IN (id, host, label) OR cardinality(queues) > 0 AND queues <@ %(queues)s::text[])
   AND seen_at > flow_now() - %(ttl)s
 ORDER BY id FOR NO KEY UPDATE;

-- name: drain
-- Does:  tells processes to stop. They do when they next say that they are there.
-- In:    ids, by
UPDATE flow_workers SET drain_at = COALESCE(drain_at, flow_now()), drain_by = COALESCE(drain_by, %(by)s) WHERE id = ANY (%(ids)s::text[]);

-- name: undrain
-- In:    ids
UPDATE flow_workers SET drain_at = NULL, drain_by = NULL WHERE id = ANY (%(ids)s::text[]) AND stopping_at IS NULL;

-- name: gone
-- Does:  forgets a worker that ended. One that left claims behind stays for a day: its row says what becomes of them.
-- In:    id, prefix (id followed by '/%%')
DELETE FROM flow_workers
 WHERE id = %(id)s
   AND NOT EXISTS (SELECT FROM flow_step_claims WHERE expires_at IS NOT NULL AND owner LIKE %(prefix)s);

-- name: lead
-- Does:  tries to lead the keepers until the transaction ends. PostgreSQL ends it when its process falls silent.
-- In:    silent (how long it may say nothing, as a setting), ttl
-- Out:   leads; workers, how many live ones there are to ask this
SELECT set_config('idle_in_transaction_session_timeout', %(silent)s, TRUE),
       pg_try_advisory_xact_lock(hashtext('orchestrator'), hashtext('keeper')) AS leads,
       (SELECT count(*) FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s) AS workers;

-- name: still_leads
SELECT TRUE;

-- name: bury
-- Does:  forgets workers that were not seen for a day. One that left claims behind stays until they are ended: the whole cluster
--        may have been away since it was told to stop.
DELETE FROM flow_workers w
 WHERE seen_at < flow_now() - interval '1 day'
   AND NOT EXISTS (SELECT FROM flow_step_claims c WHERE c.expires_at IS NOT NULL AND substring(c.owner FROM '^(.*)/') = w.id);
