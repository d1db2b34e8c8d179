-- Subscriptions: who is told what. How what they are told is made and sent: `notifications.sql`.

-- part: subscription_columns
s.*, e.failures, e.open_until, flow_now() AS now

-- name: add_subscription
-- Out:   its id; none = the name is taken
INSERT INTO flow_subscriptions (id, name, kind, address, types, q, include, secret, fingerprint, created_by)
VALUES (%(id)s, %(name)s, %(kind)s, %(address)s, %(types)s::text[], %(q)s, %(include)s::text[], %(secret)s, %(fingerprint)s, %(by)s)
ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: add_endpoint
INSERT INTO flow_endpoints (address) VALUES (%(address)s) ON CONFLICT DO NOTHING;

-- name: subscriptions
SELECT /*+ subscription_columns */ FROM flow_subscriptions s LEFT JOIN flow_endpoints e ON e.address = s.address ORDER BY s.name;

-- name: subscription
-- In:    wanted (its name, or its id)
SELECT /*+ subscription_columns */ FROM flow_subscriptions s LEFT JOIN flow_endpoints e ON e.address = s.address
 WHERE s.name = %(wanted)s OR s.id::text = %(wanted)s;

-- name: hold_subscription
-- Locks: the subscription FOR UPDATE
SELECT /*+ subscription_columns */ FROM flow_subscriptions s LEFT JOIN flow_endpoints e ON e.address = s.address
 WHERE s.name = %(wanted)s OR s.id::text = %(wanted)s FOR UPDATE OF s;

-- name: put_subscription
-- Does:  gives it what it says from now on. One that is enabled anew is told what happens from now on.
-- In:    id, address, types, q, include, enabled, why (it was disabled, if nobody did it), by
UPDATE flow_subscriptions
   SET address = %(address)s, types = %(types)s::text[], q = %(q)s, include = %(include)s::text[],
       since = CASE WHEN %(enabled)s AND NOT enabled THEN flow_now() ELSE since END,
       enabled = %(enabled)s, why_disabled = %(why)s, changed_at = flow_now(), changed_by = %(by)s
 WHERE id = %(id)s;

-- name: disable_subscription
-- Does:  tells it nothing more, for a reason that nobody gave.
UPDATE flow_subscriptions SET enabled = FALSE, why_disabled = %(why)s, changed_at = flow_now(), changed_by = %(by)s WHERE id = %(id)s;

-- name: put_secret
-- Does:  gives it another secret; the one before signs as well for the overlap.
-- In:    id, secret, fingerprint, overlap, by
UPDATE flow_subscriptions
   SET previous_secret = secret, previous_fingerprint = fingerprint, previous_until = flow_now() + %(overlap)s,
       secret = %(secret)s, fingerprint = %(fingerprint)s, changed_at = flow_now(), changed_by = %(by)s
 WHERE id = %(id)s;

-- name: drop_subscription
-- Does:  forgets it. What was to be sent to it is not sent any more, and removed later.
DELETE FROM flow_subscriptions WHERE id = %(id)s;

-- name: drop_endpoints
-- Does:  forgets how endpoints did to which nobody subscribes any more.
DELETE FROM flow_endpoints e WHERE NOT EXISTS (SELECT FROM flow_subscriptions s WHERE s.address = e.address);
