-- part: asked
-- The requests; none when the flow is not known, disabled, or at another hash. A fact that a start may bring along travels in the
-- JSON of its request: it is one column here and one of the run.
-- In:    keys (their columns); parameters: flow, hash, pinned, requests
request AS MATERIALIZED (
  SELECT q.* FROM flow_definitions AS d,
         json_to_recordset(%(requests)s::json)
           AS q(id uuid, {keys} body json, headers json, trace json, search jsonb, tags text[], trigger text, scheduled timestamptz,
                schedule text)
   WHERE d.name = %(flow)s AND d.enabled AND (d.manifest_hash = %(hash)s
         OR %(pinned)s AND EXISTS (SELECT FROM flow_definition_versions WHERE hash = %(hash)s))
)

-- part: begun
-- The runs, their first step rows, dispatches and events.
-- In:    key (what the trigger is known by), controlled, which (of the requests); parameters: flow, hash, sinks, rows
run AS (
  INSERT INTO flow_runs (id, flow, manifest_hash, status, trigger_type, trigger_key, trigger_body, trigger_headers, trace_context, search,
                         tags, sinks_open, controlled, scheduled_for)
  SELECT id, %(flow)s, %(hash)s, 'pending', trigger, {key}, body, headers, trace, search, tags, %(sinks)s, {controlled},
         scheduled
    FROM request
   {which}
  RETURNING id
), step AS (
  INSERT INTO flow_steps (run_id, step_key, position, kind, type, task, deps_open, queue, priority, timeout, queue_timeout, needs,
                          /*+ ready_columns */)
  SELECT run.id, t.step_key, t.position, t.kind, t.type, t.task, t.deps_open, t.queue, t.priority, t.timeout, t.queue_timeout,
         string_to_array(t.needs, chr(31)),
         /*+ made_ready when=t.ready; otherwise='blocked'; number=0; limit=t.queue_timeout */
    FROM run,
         json_to_recordset(%(rows)s::json)
           AS t(step_key text, position int, kind text, type text, task text, ready bool, deps_open int, queue text, priority int,
                timeout interval, queue_timeout interval, needs text)
  RETURNING run_id, step_key, status, dispatch_no, task, queue, priority
), dispatch AS (
  /*+ dispatched of=step WHERE status = 'ready' */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key)
  SELECT id, 'run.accepted', NULL FROM run
  [[UNION ALL
  SELECT run_id, 'step.dispatched', step_key FROM step WHERE status = 'ready']]
)

-- name: start
-- Does:  accepts triggers of one flow without keys and without a deadline: runs, their first step rows, dispatches and events, in
--        one commit.
-- In:    flow, hash (the manifest the caller planned with), pinned (bool: to that version, current or not), requests and rows (JSON
--        arrays), sinks
-- Out:   the ids of the runs, each twice. None: the flow does not take starts at this hash.
WITH /*+ asked keys= */, /*+ begun key=schedule; controlled=FALSE; which= */
SELECT id, id AS run_id FROM run;

-- name: start_keyed
-- Does:  as `start`, with idempotency keys, a deadline, and runs that begin later.
-- In:    as `start`; ttl (of the keys), deadline (of the runs)
-- Out:   for each request its id and that of the run that its key stands for: the same, if it was created. None: the flow does not
--        take starts at this hash.
-- Refuses: a key that was taken with another request. Taken keys are written (unchanged), because reading them would miss
--        one that was committed after this statement's snapshot.
-- Locks: the idempotency keys, in their order: two batches with the same keys take turns
WITH /*+ asked keys=key text, digest text, begin_at timestamptz, begin_after interval, */, keyed AS (
  INSERT INTO flow_idempotency_keys AS k (flow, key, run_id, request_hash, expires_at)
  SELECT %(flow)s, key, id, digest, flow_now() + %(ttl)s FROM request WHERE key IS NOT NULL ORDER BY key
  ON CONFLICT (flow, key) DO UPDATE
     SET (run_id, request_hash, created_at, expires_at) = (
           SELECT CASE WHEN gone THEN excluded.run_id ELSE k.run_id END,
                  CASE WHEN gone THEN excluded.request_hash ELSE k.request_hash END,
                  CASE WHEN gone THEN flow_now() ELSE k.created_at END, CASE WHEN gone THEN excluded.expires_at ELSE k.expires_at END
             FROM (SELECT k.expires_at < flow_now() AS gone) AS asked_once)
  RETURNING k.key, k.run_id, k.request_hash
), clash AS (
  SELECT flow_refuse('a key belongs to another request') AS refused
    FROM keyed JOIN request USING (key) WHERE keyed.request_hash <> request.digest
), /*+ begun
  key=COALESCE(key, schedule);
  controlled=%(deadline)s::interval IS NOT NULL OR begin_at IS NOT NULL OR begin_after IS NOT NULL;
  which=WHERE key IS NULL OR id IN (SELECT run_id FROM keyed) */, control AS (
  INSERT INTO flow_run_controls (run_id, deadline, start_at)
  SELECT id, flow_now() + %(deadline)s::interval, COALESCE(begin_at, flow_now() + begin_after) FROM run JOIN request USING (id)
   WHERE %(deadline)s::interval IS NOT NULL OR begin_at IS NOT NULL OR begin_after IS NOT NULL
)
SELECT request.id, COALESCE(keyed.run_id, request.id) AS run_id, clashes.n AS clashes
  FROM (SELECT count(refused) AS n FROM clash) AS clashes, request LEFT JOIN keyed USING (key);

-- name: definition
-- Does:  what a start needs to know of a flow.
SELECT manifest_hash, enabled, switched_by, switch_reason, flow_now() AS now FROM flow_definitions WHERE name = %(flow)s;

-- name: rejected
-- Does:  records that a disabled flow refused a trigger (SPEC: event `trigger.rejected_disabled`, code 1010). Refusals that follow
--        each other are one event an hour, with their count: a busy trigger must not grow the table. Two that come at the
--        same moment may make two events.
-- In:    id (of the flow's own events), flow, span
WITH newest AS MATERIALIZED (
  SELECT id, type, at FROM flow_events WHERE run_id = %(id)s ORDER BY id DESC LIMIT 1
), counted AS (
  UPDATE flow_events e
     SET facts = json_build_object('flow', %(flow)s::text, 'code', 1010, 'count', (e.facts->>'count')::bigint + 1,
                                   'last', flow_now())
    FROM newest
   WHERE e.run_id = %(id)s AND e.id = newest.id AND newest.type = 'trigger.rejected_disabled'
     AND newest.at > flow_now() - %(span)s
  RETURNING e.id
)
INSERT INTO flow_events (run_id, type, facts)
SELECT %(id)s, 'trigger.rejected_disabled', json_build_object('flow', %(flow)s::text, 'code', 1010, 'count', 1)
 WHERE NOT EXISTS (SELECT FROM counted);

-- name: first_requests
-- Does:  what the runs that hold these idempotency keys were started with.
SELECT k.key, k.run_id, k.request_hash, r.manifest_hash, r.trigger_body AS body
  FROM flow_idempotency_keys k JOIN flow_runs r ON r.id = k.run_id
 WHERE k.flow = %(flow)s AND k.key = ANY (%(keys)s) AND k.expires_at >= flow_now();
