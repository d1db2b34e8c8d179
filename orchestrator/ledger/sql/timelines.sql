-- part: bars
-- What took time in a run: attempts that ended, live claims, and steps that nobody claims (waits, runs of other flows).
-- Parameter: run_id
(SELECT step_key, attempt, started_at, ended_at, status::text AS status FROM flow_step_attempts
   WHERE run_id = %(run_id)s AND ended_at IS NOT NULL
  UNION ALL
 SELECT step_key, attempt, claimed_at, NULL, 'running' FROM flow_step_claims WHERE run_id = %(run_id)s AND expires_at IS NOT NULL
  UNION ALL
 SELECT step_key, 1, started_at, ended_at, status::text FROM flow_steps
   WHERE run_id = %(run_id)s AND kind IN ('wait', 'flow') AND started_at IS NOT NULL)

-- name: timeline_of
-- Does:  the time that a run took so far, and how many bars each step of its manifest has, with those of its items.
-- In:    run_id
SELECT r.created_at, COALESCE(r.ended_at, flow_now()) AS until, (SELECT json_object_agg(top, n) FROM
       (SELECT split_part(step_key, '.', 1) AS top, count(*) AS n FROM /*+ bars */ AS b GROUP BY 1) AS counted) AS bars
  FROM flow_runs r WHERE r.id = %(run_id)s;

-- name: timeline_bars
-- Does:  the bars of steps that have few, in the order of the manifest, in milliseconds since `begin`.
-- In:    run_id, begin, until (what has not ended lasts until then), crowded (steps whose bars are left out), limit
SELECT b.step_key, b.attempt, b.status, (EXTRACT(epoch FROM b.started_at - %(begin)s) * 1000)::bigint AS start,
       (EXTRACT(epoch FROM COALESCE(b.ended_at, %(until)s) - b.started_at) * 1000)::bigint AS length
  FROM /*+ bars */ AS b JOIN flow_steps s ON s.run_id = %(run_id)s AND s.step_key = b.step_key
 WHERE split_part(b.step_key, '.', 1) <> ALL (%(crowded)s::text[])
 ORDER BY s.position, s.loop_index NULLS FIRST, b.step_key, b.attempt LIMIT %(limit)s;

-- name: timeline_density
-- Does:  of steps that have many bars, how many begin, end and fail in each part of the span.
-- In:    run_id, begin, until, crowded, parts
SELECT split_part(step_key, '.', 1) AS top, bucket.at, count(*) FILTER (WHERE bucket.starts) AS started,
       count(*) FILTER (WHERE NOT bucket.starts) AS ended,
       count(*) FILTER (WHERE NOT bucket.starts AND status NOT IN ('succeeded', 'polled', 'released')) AS failed
  FROM /*+ bars */ AS b, LATERAL (
         SELECT TRUE AS starts, started_at AS moment UNION ALL SELECT FALSE, ended_at WHERE ended_at IS NOT NULL) AS edge,
       LATERAL (SELECT edge.starts, LEAST(GREATEST(width_bucket(EXTRACT(epoch FROM edge.moment), EXTRACT(epoch FROM %(begin)s::timestamptz),
                       EXTRACT(epoch FROM %(until)s::timestamptz), %(parts)s::int), 1), %(parts)s::int) - 1 AS at) AS bucket
 WHERE split_part(step_key, '.', 1) = ANY (%(crowded)s::text[])
 GROUP BY 1, 2 ORDER BY 1, 2;
