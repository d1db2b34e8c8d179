-- name: keep_evidence
-- Does:  records what was tried, and forgets what is older than two years.
-- In:    kind, at (null: now), ok, facts (JSON), by
WITH old AS (DELETE FROM flow_evidence WHERE kind = %(kind)s AND at < flow_now() - interval '2 years')
INSERT INTO flow_evidence (kind, at, ok, facts, by)
VALUES (%(kind)s, COALESCE(%(at)s::timestamptz, flow_now()), %(ok)s, %(facts)s, %(by)s)
RETURNING kind, at, ok, facts, by;

-- name: evidence
-- Does:  the last of each kind, or with `kind` the last of it, newest first.
-- In:    kind (null: of each the last), most
SELECT kind, at, ok, facts, by FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY at DESC, id DESC) AS place FROM flow_evidence
     WHERE kind = COALESCE(%(kind)s::text, kind)) AS e
 WHERE place <= %(most)s
 ORDER BY kind, at DESC;
