-- name: take_request_key
-- Does:  gives a key to a request, also one that expired. Of two requests at once the second waits for the first one's end.
-- In:    caller, operation, key, digest, ttl
-- Out:   one row; none = another request has it
-- Locks: the row of the key, before anything else
-- Time:  flow_now()        Index: primary key
INSERT INTO flow_request_keys AS k (caller, operation, key, digest, expires_at)
VALUES (%(caller)s, %(operation)s, %(key)s, %(digest)s, flow_now() + %(ttl)s)
ON CONFLICT (caller, operation, key) DO UPDATE
   SET digest = EXCLUDED.digest, expires_at = EXCLUDED.expires_at
 WHERE k.expires_at <= flow_now()
RETURNING k.key;

-- name: request_answered
-- Does:  what the key was answered. Read in a statement after `take_request_key`, which may have waited for it.
SELECT digest, status, headers, answer FROM flow_request_keys
 WHERE caller = %(caller)s AND operation = %(operation)s AND key = %(key)s;

-- name: keep_request_answer
-- In:    caller, operation, key, status, headers (JSON), answer (JSON text, or empty)
UPDATE flow_request_keys SET status = %(status)s, headers = %(headers)s, answer = %(answer)s
 WHERE caller = %(caller)s AND operation = %(operation)s AND key = %(key)s;

-- name: leave_request_key
DELETE FROM flow_request_keys WHERE caller = %(caller)s AND operation = %(operation)s AND key = %(key)s;

-- name: drop_request_keys
-- Does:  removes a page of keys that expired. A request that takes one anew meanwhile keeps it.
-- In:    page
-- Out:   how many
-- Time:  flow_now()        Index: ix_flow_request_keys_expires_at
WITH page AS MATERIALIZED (
  SELECT caller, operation, key FROM flow_request_keys
   WHERE expires_at < (SELECT flow_now()) ORDER BY expires_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM flow_request_keys k USING page
   WHERE k.caller = page.caller AND k.operation = page.operation AND k.key = page.key RETURNING k.key
)
SELECT count(*) AS removed FROM gone;
