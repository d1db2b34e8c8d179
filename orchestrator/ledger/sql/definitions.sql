-- name: load_manifest
SELECT manifest::text AS manifest, format FROM flow_definition_versions WHERE hash = %(hash)s;

-- name: unreadable
-- Does:  the versions that only a newer release can read.
-- In:    format (the newest that this release reads)
SELECT hash FROM flow_definition_versions WHERE format > %(format)s;

-- name: version
-- Does:  where a version of a flow stands, and which one is current.
-- Out:   one row; ordinal, superseded and hash are null when the version is not kept. None = no such flow
SELECT v.hash, v.ordinal, v.superseded_at IS NOT NULL AS superseded, d.manifest_hash AS current_hash,
       (SELECT ordinal FROM flow_definition_versions WHERE hash = d.manifest_hash) AS current_ordinal
  FROM flow_definitions d LEFT JOIN flow_definition_versions v ON v.hash = %(hash)s
 WHERE d.name = %(flow)s;

-- name: introduce
-- Does:  makes the first version of a flow that there is not yet. Two that do it at once meet here.
-- Out:   one row; none = there is the flow
INSERT INTO flow_definitions (name, version, manifest_hash) VALUES (%(name)s, %(version)s, %(hash)s)
ON CONFLICT (name) DO NOTHING RETURNING name;

-- name: hold_definition
-- Does:  waits for a flow, and holds it against registrations and switches. Starts go on.
-- Locks: the flow; then come its schedules
SELECT TRUE AS held FROM flow_definitions WHERE name = %(name)s FOR NO KEY UPDATE;

-- name: keep_version
-- Does:  keeps a version for ever. The caller holds the flow.
INSERT INTO flow_definition_versions (hash, flow, version, manifest, format, registered_by)
VALUES (%(hash)s, %(name)s, %(version)s, %(manifest)s::json, %(format)s, %(by)s) ON CONFLICT (hash) DO NOTHING;

-- name: number_versions
-- Does:  counts on: versions of a flow without an ordinal, also those that an earlier release kept, get the next ones.
UPDATE flow_definition_versions v SET ordinal = n.ordinal
  FROM (SELECT hash, (SELECT COALESCE(max(ordinal), 0) FROM flow_definition_versions WHERE flow = %(flow)s)
                     + row_number() OVER (ORDER BY created_at, hash) AS ordinal
          FROM flow_definition_versions WHERE flow = %(flow)s AND ordinal IS NULL) AS n
 WHERE v.hash = n.hash;

-- name: make_current
-- Does:  from now on starts by name, and schedules, get this version. The caller holds the flow.
-- In:    flow, version, hash, before (the hash that is current), event_id, facts (JSON)
WITH superseded AS (
  UPDATE flow_definition_versions SET superseded_at = flow_now() WHERE hash = %(before)s AND hash <> %(hash)s
), event AS (
  INSERT INTO flow_events (run_id, type, facts) VALUES (%(event_id)s, 'flow.current', %(facts)s::json)
)
UPDATE flow_definitions SET version = %(version)s, manifest_hash = %(hash)s, updated_at = flow_now()
 WHERE name = %(flow)s;

-- name: version_at
-- Does:  the version of a flow with that ordinal.
SELECT hash FROM flow_definition_versions WHERE flow = %(flow)s AND ordinal = %(ordinal)s;

-- name: switch
WITH changed AS (
  UPDATE flow_definitions SET enabled = %(enabled)s, switched_by = %(by)s, switch_reason = %(reason)s, updated_at = flow_now()
   WHERE name = %(flow)s
  RETURNING name
), event AS (
  INSERT INTO flow_events (run_id, type, facts)
  SELECT %(event_id)s, CASE WHEN %(enabled)s THEN 'flow.enabled' ELSE 'flow.disabled' END,
         json_build_object('flow', name, 'by', %(by)s::text, 'reason', %(reason)s::text) FROM changed
)
SELECT name FROM changed;

-- name: flow_names
SELECT name FROM flow_definitions ORDER BY name;

-- name: declared_search
-- Does:  the search attributes that current versions declare, with the schemas of their inputs.
-- In:    flows (null: all)
SELECT v.manifest->'search' AS search, COALESCE(v.manifest->'input_schema', '{}') AS input_schema
  FROM flow_definitions d JOIN flow_definition_versions v ON v.hash = d.manifest_hash
 WHERE v.manifest->'search' IS NOT NULL AND (%(flows)s::text[] IS NULL OR d.name = ANY (%(flows)s));

-- name: flow_names_ever
SELECT DISTINCT flow FROM flow_definition_versions;

-- name: holders
-- Does:  what needs a flow. A worker of an earlier release does not say which flows its code has, but which tasks.
-- In:    flow, ttl (of workers)
-- Out:   one row; none = no such flow
-- Time:  flow_now()
SELECT (SELECT count(*) FROM flow_runs r WHERE r.flow = d.name AND r.ended_at IS NULL) AS open_runs,
       ARRAY(SELECT trigger_key FROM flow_schedule_states s
              WHERE s.flow = d.name AND s.active AND s.paused_at IS NULL AND d.enabled ORDER BY trigger_key) AS schedules,
       (SELECT count(*) FROM flow_schedule_backfills b WHERE b.flow = d.name AND b.ended_at IS NULL) AS backfills,
       ARRAY(SELECT id FROM flow_workers w
              WHERE w.seen_at > flow_now() - %(ttl)s AND w.stopping_at IS NULL
                AND (jsonb_exists(w.versions, d.name)
                     OR w.versions = '{}' AND EXISTS (SELECT FROM unnest(w.handlers) AS h WHERE starts_with(h, d.name || '.')))
              ORDER BY id) AS workers
  FROM flow_definitions d WHERE d.name = %(flow)s;

-- name: forget_schedules
-- Does:  removes the schedules of a flow with their events. Their ticks go with their runs, or when they are old.
-- In:    flow, event_ids (of the schedules' own events)
-- Locks: the caller holds the flow and the schedules
WITH events AS (
  DELETE FROM flow_events WHERE run_id = ANY (%(event_ids)s::uuid[])
)
DELETE FROM flow_schedule_states WHERE flow = %(flow)s;

-- name: forget_flow
-- Does:  the flow is not registered any more. Its versions stay, superseded: a start that read the flow before may still commit.
-- In:    flow, by, event_id (of the flow's own events)
-- Locks: the caller holds the flow
WITH versions AS (
  UPDATE flow_definition_versions SET superseded_at = flow_now() WHERE flow = %(flow)s
), event AS (
  INSERT INTO flow_events (run_id, type, facts)
  VALUES (%(event_id)s, 'flow.deleted', json_build_object('flow', %(flow)s::text, 'by', %(by)s::text))
)
DELETE FROM flow_definitions WHERE name = %(flow)s;

-- name: drop_forgotten
-- Does:  removes the versions of flows that were deleted a day ago and have no runs any more.
-- Out:   the flow of each
-- Time:  flow_now()        Index: ix_flow_runs_flow_id
DELETE FROM flow_definition_versions v
 WHERE NOT EXISTS (SELECT FROM flow_definitions d WHERE d.name = v.flow)
   AND NOT EXISTS (SELECT FROM flow_runs r WHERE r.flow = v.flow)
   AND v.superseded_at < (SELECT flow_now() - interval '1 day')
RETURNING v.flow;

-- name: drop_events
DELETE FROM flow_events WHERE run_id = ANY (%(ids)s::uuid[]);
