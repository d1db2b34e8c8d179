-- name: load_manifest
SELECT manifest::text AS manifest FROM flow_definition_versions WHERE hash = %(hash)s;

-- name: registered
-- Does:  whether this very manifest is the current one of its flow.
SELECT TRUE AS same FROM flow_definitions WHERE name = %(name)s AND version = %(version)s AND manifest_hash = %(hash)s;

-- name: hold_definition
-- Does:  waits for a flow, and holds it against registrations and switches. Starts go on.
-- Locks: the flow; then come its schedules
SELECT TRUE AS held FROM flow_definitions WHERE name = %(name)s FOR NO KEY UPDATE;

-- name: register
-- Does:  upserts a flow. Runs in flight keep the hash they started with.
WITH version AS (
  INSERT INTO flow_definition_versions (hash, flow, version, manifest)
  VALUES (%(hash)s, %(name)s, %(version)s, %(manifest)s::json) ON CONFLICT (hash) DO NOTHING
)
INSERT INTO flow_definitions AS d (name, version, manifest_hash) VALUES (%(name)s, %(version)s, %(hash)s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, manifest_hash = excluded.manifest_hash, updated_at = flow_now()
 WHERE d.manifest_hash <> excluded.manifest_hash OR d.version <> excluded.version;

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
