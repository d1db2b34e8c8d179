-- part: since
-- The least id that a delivery of the last `length` may have: an id begins with the time.
(SELECT (lpad(to_hex((EXTRACT(epoch FROM flow_now() - {length}) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid)

-- part: delivery_columns
-- What a list of deliveries has.
id, slug, flow, received_at, scheme, mode, outcome, status, gate, why, address, size_bytes, run_id, previous_key, count,
replay_of, replayed_at, raw IS NOT NULL AS replayable

-- name: drop_webhooks
-- Does:  gives up the slugs that the flow's current manifest does not have; of those it wants, the ones whose flow is not registered
--        any more.
-- In:    flow, slugs (those it has)
-- Locks: the caller holds the flow
DELETE FROM flow_webhooks w
 WHERE flow = %(flow)s AND slug <> ALL (%(slugs)s)
    OR slug = ANY (%(slugs)s) AND NOT EXISTS (SELECT FROM flow_definitions d WHERE d.name = w.flow);

-- name: claim_webhooks
-- Does:  the slugs are this flow's. A statement of its own: whether a flow is registered that took one meanwhile, its snapshot would
--        not tell.
-- In:    flow, slugs
-- Out:   the slugs that are this flow's now. One that is missing is another flow's.
-- Locks: the slugs, in their order: two flows that want the same take turns
INSERT INTO flow_webhooks AS w (slug, flow)
SELECT slug, %(flow)s FROM unnest(%(slugs)s::text[]) AS slug ORDER BY slug
ON CONFLICT (slug) DO UPDATE SET flow = excluded.flow WHERE w.flow = excluded.flow
RETURNING slug;

-- name: webhook
-- Does:  whose slug it is, with the current version of the flow, and the time.
-- Out:   one row; none = no flow has it
SELECT w.slug, d.name AS flow, d.manifest_hash, d.enabled, flow_now() AS now
  FROM flow_webhooks w JOIN flow_definitions d ON d.name = w.flow
 WHERE w.slug = %(slug)s;

-- name: webhooks
-- Does:  every slug, with what came in `span`.
SELECT w.slug, d.name AS flow, d.manifest_hash, d.enabled,
       COALESCE(sum(v.count) FILTER (WHERE v.outcome <> 'refused'), 0)::bigint AS accepted,
       COALESCE(sum(v.count) FILTER (WHERE v.outcome = 'refused'), 0)::bigint AS refused, max(v.received_at) AS last_at
  FROM flow_webhooks w JOIN flow_definitions d ON d.name = w.flow
       LEFT JOIN flow_webhook_deliveries v ON v.slug = w.slug AND v.id > /*+ since length=%(span)s */
 GROUP BY w.slug, d.name, d.manifest_hash, d.enabled ORDER BY w.slug;

-- name: open_runs_with
-- Does:  the open runs of a flow that have one of these search attributes, the newest first; two tell that it is not one.
-- In:    flow, wanted (JSON objects)
-- Out:   at most two
-- Index: ix_flow_runs_search
SELECT id FROM flow_runs
 WHERE flow = %(flow)s AND search @> ANY (%(wanted)s::jsonb[]) AND search IS NOT NULL AND ended_at IS NULL
 ORDER BY id DESC LIMIT 2;

-- name: take_nonces
-- Does:  takes what a delivery is known by, or says which delivery took it. What was taken is written (unchanged), because reading
--        would miss one that was committed after this statement's snapshot. One that expired is taken anew.
-- In:    slug, keys, digest, delivery_id, run_id, ttl
-- Out:   one row for each: key, digest, delivery_id, run_id
-- Locks: the nonces, in their order: the same delivery at two servers takes turns
INSERT INTO flow_webhook_nonces AS n (slug, key, digest, delivery_id, run_id, expires_at)
SELECT %(slug)s, key, %(digest)s, %(delivery_id)s, %(run_id)s, flow_now() + %(ttl)s
  FROM unnest(%(keys)s::text[]) AS key ORDER BY key
ON CONFLICT (slug, key) DO UPDATE
   SET (digest, delivery_id, run_id, created_at, expires_at) = (
         SELECT CASE WHEN gone THEN excluded.digest ELSE n.digest END,
                CASE WHEN gone THEN excluded.delivery_id ELSE n.delivery_id END,
                CASE WHEN gone THEN excluded.run_id ELSE n.run_id END,
                CASE WHEN gone THEN flow_now() ELSE n.created_at END,
                CASE WHEN gone THEN excluded.expires_at ELSE n.expires_at END
           FROM (SELECT n.expires_at < flow_now() AS gone) AS asked_once)
RETURNING key, digest, delivery_id, run_id;

-- name: nonces
-- Does:  which deliveries took these before.
-- In:    slug, keys
-- Out:   one row for each that is remembered: key, digest, delivery_id, run_id
-- Time:  flow_now()        Index: primary key
SELECT key, digest, delivery_id, run_id FROM flow_webhook_nonces
 WHERE slug = %(slug)s AND key = ANY (%(keys)s) AND expires_at >= flow_now();

-- name: point_nonces
-- Does:  the delivery's nonces name another run: its idempotency key had started one before.
UPDATE flow_webhook_nonces SET run_id = %(run_id)s WHERE slug = %(slug)s AND key = ANY (%(keys)s);

-- name: keep_delivery
-- Does:  keeps what came and what became of it. Of a flood the refusals within a minute are one row, with their count.
INSERT INTO flow_webhook_deliveries AS v (id, slug, flow, scheme, mode, outcome, status, gate, why, verdicts, address, size_bytes, digest,
                                          headers, body, run_id, previous_key, raw, replay_of)
VALUES (%(id)s, %(slug)s, %(flow)s, %(scheme)s, %(mode)s, %(outcome)s, %(status)s, %(gate)s, %(why)s, %(verdicts)s::json, %(address)s,
        %(size_bytes)s, %(digest)s, %(headers)s::json, %(body)s::json, %(run_id)s, %(previous_key)s, %(raw)s, %(replay_of)s)
ON CONFLICT (id) DO UPDATE SET count = v.count + 1;

-- name: replayed
-- Does:  notes that a delivery that was refused was accepted in the end; it is not kept whole any more.
-- Out:   one row; none = somebody else replayed it, or it is gone
UPDATE flow_webhook_deliveries SET replayed_at = flow_now(), raw = NULL
 WHERE id = %(id)s AND replayed_at IS NULL
RETURNING id;

-- name: delivery
-- Does:  a delivery, with what it said.
SELECT /*+ delivery_columns */, digest, verdicts, headers, body FROM flow_webhook_deliveries WHERE id = %(id)s;

-- name: raw_delivery
-- Does:  a delivery as it came, for a replay.
SELECT slug, received_at, count, replayed_at, raw FROM flow_webhook_deliveries WHERE id = %(id)s;

-- name: deliveries_ending
-- Does:  the newest deliveries whose ids end with these digits: first all that share the last four, as of runs.
-- In:    ending (at least four hexadecimal digits, no dashes)
-- Index: ix_flow_webhook_deliveries_ending
WITH alike AS MATERIALIZED (
  SELECT id FROM flow_webhook_deliveries WHERE substring(uuid_send(id), 15) = decode(right(%(ending)s::text, 4), 'hex')
)
SELECT id FROM alike
 WHERE right(replace(id::text, '-', ''), length(%(ending)s::text)) = %(ending)s::text ORDER BY id DESC LIMIT 2;

-- name: deliveries
-- Does:  what came, newest first, without bodies.
-- In:    slug, outcome (null: all), before (null: from the newest), limit
SELECT /*+ delivery_columns */
  FROM flow_webhook_deliveries
 WHERE (%(slug)s::text IS NULL OR slug = %(slug)s) AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
   AND (%(before)s::uuid IS NULL OR id < %(before)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- name: delivery_counts
-- Does:  how many came in `span`, by slug, outcome and gate.
SELECT slug, flow, outcome, gate, sum(count)::bigint AS count, max(received_at) AS last_at, sum(size_bytes)::bigint AS bytes,
       coalesce(sum(count) FILTER (WHERE previous_key), 0)::bigint AS previous_key
  FROM flow_webhook_deliveries
 WHERE id > /*+ since length=%(span)s */ AND (%(slug)s::text IS NULL OR slug = %(slug)s)
 GROUP BY slug, flow, outcome, gate ORDER BY slug, outcome, gate;

-- name: drop_nonces
-- Does:  removes a page of nonces that expired. A delivery that takes one anew meanwhile keeps it.
-- Out:   how many
-- Time:  flow_now()        Index: ix_flow_webhook_nonces_expires_at
WITH page AS MATERIALIZED (
  SELECT slug, key FROM flow_webhook_nonces
   WHERE expires_at < (SELECT flow_now()) ORDER BY expires_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM flow_webhook_nonces n USING page WHERE n.slug = page.slug AND n.key = page.key RETURNING n.key
)
SELECT count(*) AS removed FROM gone;

-- name: drop_deliveries
-- Does:  removes a page of deliveries that came `ttl` ago; an id begins with the time, so the oldest are found by key.
-- Out:   how many
-- Time:  flow_now()        Index: primary key
WITH page AS MATERIALIZED (
  SELECT id FROM flow_webhook_deliveries
   WHERE id < /*+ since length=%(ttl)s */
   ORDER BY id LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM flow_webhook_deliveries v USING page WHERE v.id = page.id RETURNING v.id
)
SELECT count(*) AS removed FROM gone;
