-- name: add_api_key
-- In:    key_id, name, role, scopes, flows, digest, by; expires_at or expires_in (null: never)
-- Out:   the row; none = the name is taken
INSERT INTO flow_api_keys (id, name, role, scopes, flows, digest, created_by, expires_at)
VALUES (%(key_id)s, %(name)s, %(role)s, %(scopes)s::text[], %(flows)s::text[], %(digest)s, %(by)s,
        COALESCE(%(expires_at)s::timestamptz, flow_now() + %(expires_in)s::interval))
ON CONFLICT (name) WHERE revoked_at IS NULL AND replaced_by IS NULL DO NOTHING
RETURNING *, flow_now() AS now;

-- name: api_keys
-- Does:  lists the keys that could still be used, or with `ended` all of them.
-- In:    ended (bool)
SELECT *, flow_now() AS now FROM flow_api_keys
 WHERE %(ended)s::boolean OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > flow_now()))
 ORDER BY created_at, id;

-- name: api_key
-- In:    key_id
SELECT *, flow_now() AS now FROM flow_api_keys WHERE id = %(key_id)s;

-- name: hold_api_keys
-- Does:  locks the keys of that id or name that are not revoked.
-- In:    wanted (id or name)
-- Out:   the current key of a name comes first
SELECT *, flow_now() AS now FROM flow_api_keys
 WHERE (id = %(wanted)s OR name = %(wanted)s) AND revoked_at IS NULL
 ORDER BY replaced_by IS NOT NULL, created_at DESC
   FOR UPDATE;

-- name: replace_api_key
-- Does:  lets a key end after the overlap of its rotation, or when it would have ended anyway.
-- In:    key_id, replaced_by, overlap
UPDATE flow_api_keys
   SET replaced_by = %(replaced_by)s,
       expires_at = LEAST(COALESCE(expires_at, 'infinity'), flow_now() + %(overlap)s)
 WHERE id = %(key_id)s;

-- name: revoke_api_keys
-- In:    key_ids, by
UPDATE flow_api_keys SET revoked_at = flow_now(), revoked_by = %(by)s WHERE id = ANY(%(key_ids)s);

-- name: api_keys_used
-- Does:  notes that keys are in use; at most once a minute for each.
-- In:    key_ids
UPDATE flow_api_keys SET last_used_at = flow_now()
 WHERE id = ANY(%(key_ids)s) AND (last_used_at IS NULL OR last_used_at < flow_now() - interval '1 minute');

-- name: add_user
-- In:    user_name, role, groups, password_hash (null: they come from a provider of identities), by
-- Out:   one row; none = there is one of that name
INSERT INTO flow_users (name, role, groups, password_hash, created_by)
VALUES (%(user_name)s, %(role)s, %(groups)s::text[], %(password_hash)s, %(by)s)
ON CONFLICT (name) DO NOTHING
RETURNING *;

-- name: users
SELECT * FROM flow_users ORDER BY name;

-- name: user
-- In:    user_name
SELECT * FROM flow_users WHERE name = %(user_name)s;

-- name: hold_user
-- In:    user_name
SELECT * FROM flow_users WHERE name = %(user_name)s FOR UPDATE;

-- name: put_user
-- In:    user_name, role, groups, password_hash, disabled (bool)
UPDATE flow_users
   SET role = %(role)s, groups = %(groups)s::text[], password_hash = %(password_hash)s,
       disabled_at = CASE WHEN %(disabled)s THEN COALESCE(disabled_at, flow_now()) END
 WHERE name = %(user_name)s;

-- name: identified_user
-- Does:  finds and locks the user that a provider of identities means, whatever their name.
-- In:    issuer, subject
SELECT * FROM flow_users WHERE issuer = %(issuer)s AND subject = %(subject)s FOR UPDATE;

-- name: add_identified_user
-- In:    user_name, role, groups, issuer, subject, by
-- Out:   one row; none = the name or the identity is there
INSERT INTO flow_users (name, role, groups, created_by, issuer, subject)
VALUES (%(user_name)s, %(role)s, %(groups)s::text[], %(by)s, %(issuer)s, %(subject)s)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: begin_sign_in
-- In:    digest, next, lifetime
INSERT INTO flow_sign_ins (digest, next, expires_at) VALUES (%(digest)s, %(next)s, flow_now() + %(lifetime)s);

-- name: take_sign_in
-- Does:  takes a try to sign in, once.
-- In:    digest
-- Out:   where to go then, and whether it is in time; none = it was taken, or there never was one
DELETE FROM flow_sign_ins WHERE digest = %(digest)s RETURNING next, expires_at > flow_now() AS in_time;

-- name: bury_sign_ins
DELETE FROM flow_sign_ins WHERE expires_at < flow_now();

-- name: open_session
-- Does:  signs a user in, if they are not disabled.
-- In:    session_id, user_name, digest, method, lifetime, address, agent
-- Out:   one row; none = they are gone or disabled
WITH who AS (UPDATE flow_users SET signed_in_at = flow_now()
              WHERE name = %(user_name)s AND disabled_at IS NULL RETURNING name)
INSERT INTO flow_sessions (id, user_name, digest, method, expires_at, address, agent)
SELECT %(session_id)s, name, %(digest)s, %(method)s, flow_now() + %(lifetime)s, %(address)s, %(agent)s FROM who
RETURNING id, expires_at;

-- name: session
-- Does:  finds a session that has not ended, with what its user may do now.
-- In:    session_id
SELECT s.*, u.role, u.groups
  FROM flow_sessions s JOIN flow_users u ON u.name = s.user_name
 WHERE s.id = %(session_id)s AND s.expires_at > flow_now() AND u.disabled_at IS NULL;

-- name: sessions
-- In:    user_name (null: all)
SELECT s.*, u.role, u.groups
  FROM flow_sessions s JOIN flow_users u ON u.name = s.user_name
 WHERE s.expires_at > flow_now() AND (%(user_name)s::text IS NULL OR s.user_name = %(user_name)s)
 ORDER BY s.created_at, s.id;

-- name: end_session
-- In:    session_id
-- Out:   whose it was, and how they had signed in; none = there is none
DELETE FROM flow_sessions WHERE id = %(session_id)s RETURNING user_name, method;

-- name: end_sessions_of
-- In:    user_name
DELETE FROM flow_sessions WHERE user_name = %(user_name)s;

-- name: bury_sessions
DELETE FROM flow_sessions WHERE expires_at < flow_now();

-- name: add_audit
-- Does:  keeps what somebody did. The role of the running processes may write such rows, and not change them.
-- In:    actor, key_id, action, target, was, became (JSON), reason, address, request_id
INSERT INTO flow_audit (actor, key_id, action, target, was, became, reason, address, request_id)
VALUES (%(actor)s, %(key_id)s, %(action)s, %(target)s, %(was)s::jsonb, %(became)s::jsonb, %(reason)s, %(address)s,
        %(request_id)s);

-- name: drop_audit
-- Does:  forgets a page of what was done before a time; as the owner of the schema only.
-- In:    until, page
DELETE FROM flow_audit
 WHERE id IN (SELECT id FROM flow_audit WHERE at < %(until)s ORDER BY at LIMIT %(page)s)
RETURNING id;
