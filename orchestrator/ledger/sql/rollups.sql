-- part: id_before
-- The smallest id of a run that was started `{age}` ago.
(lpad(to_hex((EXTRACT(epoch FROM flow_now() - {age}) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid

-- part: rolled_up
-- Runs that ended are added to the roll-ups.
-- In:    of (a query of ids); parameter: bounds (seconds)
ended AS (
  SELECT date_trunc('minute', r.ended_at) AS minute, r.flow, COALESCE(v.ordinal, 0) AS version, r.status,
         EXTRACT(epoch FROM r.ended_at - COALESCE(r.started_at, r.ended_at))::float8 AS duration_s,
         EXTRACT(epoch FROM COALESCE(r.started_at, r.ended_at) - r.created_at)::float8 AS wait_s
    FROM flow_runs r JOIN flow_definition_versions v ON v.hash = r.manifest_hash WHERE r.id = ANY (ARRAY({of}))
), summed AS (
  SELECT minute, flow, version, status, count(*) AS n, sum(duration_s) AS duration_s, sum(wait_s) AS wait_s,
         array_agg(width_bucket(duration_s, %(bounds)s::float8[])) AS durations,
         array_agg(width_bucket(wait_s, %(bounds)s::float8[])) AS waits
    FROM ended GROUP BY minute, flow, version, status
), rolled_up AS (
  INSERT INTO flow_run_rollups AS k (minute, flow, version, status, n, duration_s, durations, wait_s, waits)
  SELECT minute, flow, version, status, n,
         duration_s, /*+ bucketed of=durations */, wait_s, /*+ bucketed of=waits */
    FROM summed ORDER BY minute, flow, version, status
  ON CONFLICT (minute, flow, version, status) DO UPDATE
     SET n = k.n + excluded.n, duration_s = k.duration_s + excluded.duration_s, wait_s = k.wait_s + excluded.wait_s,
         durations = ARRAY(SELECT a + b FROM unnest(k.durations, excluded.durations) WITH ORDINALITY AS u(a, b, at) ORDER BY at),
         waits = ARRAY(SELECT a + b FROM unnest(k.waits, excluded.waits) WITH ORDINALITY AS u(a, b, at) ORDER BY at)
)

-- part: bucketed
-- How many there are in each bucket.
ARRAY(SELECT count(found.at) FROM generate_series(0, cardinality(%(bounds)s::float8[])) AS bucket(at)
        LEFT JOIN unnest({of}) AS found(at) ON found.at = bucket.at GROUP BY bucket.at ORDER BY bucket.at)

-- name: rollup_place
-- Does:  makes sure that there is a place to go on from.
INSERT INTO flow_rollup_state (behind) VALUES (%(first)s) ON CONFLICT DO NOTHING;

-- name: rollup_next
-- Does:  looks at a page of runs that were not looked at yet: those that ended are counted, the others are noted. Ids begin with
--        the time of the start.
-- In:    bounds, fresh (runs younger than this are left for the next time), page
-- Out:   how many runs it looked at, and how many of them ended; no row: another keeper is at it
-- Locks: the place, first of all; then the roll-ups, in their order
WITH place AS MATERIALIZED (
  SELECT behind FROM flow_rollup_state FOR UPDATE SKIP LOCKED
), looked AS MATERIALIZED (
  SELECT id, ended_at IS NOT NULL AS over FROM flow_runs
   WHERE id > (SELECT behind FROM place) AND id < (SELECT /*+ id_before age=%(fresh)s */)
   ORDER BY id LIMIT %(page)s
), /*+ rolled_up of=SELECT id FROM looked WHERE over */, noted AS (
  INSERT INTO flow_rollup_pages (begin, "end", counted, waiting)
  SELECT behind, (SELECT id FROM looked ORDER BY id DESC LIMIT 1), ARRAY(SELECT id FROM looked WHERE over),
         ARRAY(SELECT id FROM looked WHERE NOT over)
    FROM place WHERE EXISTS (SELECT FROM looked)
  RETURNING "end"
), moved AS (
  UPDATE flow_rollup_state SET behind = noted."end" FROM noted
)
SELECT (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM looked WHERE over) AS counted FROM place;

-- name: rollup_again
-- Does:  looks again at pages: for runs that had not ended, and once, when the page is old, for runs that appeared late: their
--        transaction was long, or the clock of whoever started them is behind.
-- In:    bounds, late (the age at which a page is settled), every (a page is looked at once in this time), pages
-- Out:   how many pages, and how many runs were counted
-- Locks: the pages; those that another keeper has are left to it
WITH page AS MATERIALIZED (
  SELECT begin, "end", counted, waiting, settled,
         NOT settled AND "end" < (SELECT /*+ id_before age=%(late)s */) AS settles
    FROM flow_rollup_pages WHERE looked_at < (SELECT flow_now() - %(every)s) ORDER BY looked_at LIMIT %(pages)s
     FOR UPDATE SKIP LOCKED
), candidate AS MATERIALIZED (
  SELECT begin, unnest(waiting) AS id FROM page
  UNION
  (SELECT p.begin, r.id FROM page p, LATERAL (SELECT id FROM flow_runs WHERE id > p.begin AND id <= p."end" OFFSET 0) AS r
    WHERE p.settles
    EXCEPT SELECT begin, unnest(counted) FROM page)
), found AS MATERIALIZED (
  SELECT c.begin, c.id, r.ended_at IS NOT NULL AS over
    FROM candidate c, LATERAL (SELECT ended_at FROM flow_runs WHERE id = c.id OFFSET 0) AS r
), /*+ rolled_up of=SELECT id FROM found WHERE over */, now AS MATERIALIZED (
  SELECT p.begin, p.settled OR p.settles AS settled, ARRAY(SELECT id FROM found f WHERE f.begin = p.begin AND NOT over) AS waiting,
         CASE WHEN p.settled OR p.settles THEN '{}' ELSE
           p.counted || ARRAY(SELECT id FROM found f WHERE f.begin = p.begin AND over) END AS counted
    FROM page p
), done AS (
  DELETE FROM flow_rollup_pages d USING now WHERE d.begin = now.begin AND now.settled AND now.waiting = '{}'
), kept AS (
  UPDATE flow_rollup_pages k
     SET settled = now.settled, waiting = now.waiting, counted = now.counted, looked_at = flow_now()
    FROM now WHERE k.begin = now.begin AND NOT (now.settled AND now.waiting = '{}')
)
SELECT (SELECT count(*) FROM page) AS pages, (SELECT count(*) FROM found WHERE over) AS counted;

-- name: stats
-- Does:  what the roll-ups say of a span.
-- In:    flow (null: all), since, until, every (a length; null: the whole span as one)
-- Out:   a row for each flow, version, status and part of the span; `durations` and `waits` are arrays of arrays
-- Index: pk_flow_run_rollups
SELECT flow, version, status, date_bin(COALESCE(%(every)s, %(until)s - %(since)s), minute, %(since)s) AS since,
       sum(n)::bigint AS n, sum(duration_s) AS duration_s, array_agg(durations) AS durations, sum(wait_s) AS wait_s,
       array_agg(waits) AS waits
  FROM flow_run_rollups
 WHERE minute >= %(since)s AND minute < %(until)s AND (%(flow)s::text IS NULL OR flow = %(flow)s)
 GROUP BY 1, 2, 3, 4 ORDER BY 4, 1, 2, 3;

-- name: drop_rollups
-- Does:  removes a page of old roll-ups.
-- In:    ttl, page
WITH page AS MATERIALIZED (
  SELECT minute, flow, version, status FROM flow_run_rollups
   WHERE minute < (SELECT flow_now() - %(ttl)s) ORDER BY minute LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM flow_run_rollups r USING page p
   WHERE (r.minute, r.flow, r.version, r.status) = (p.minute, p.flow, p.version, p.status) RETURNING r.n
)
SELECT count(*) AS removed FROM gone;
