-- What is sent to subscriptions: made of the events of all runs, each exactly once; claimed, sent, and written down.

-- part: notification_columns
n.id, n.subscription_id, s.name AS subscription, n.type, n.run_id, n.at, n.state, n.tries, n.claims, n.due_at, n.claimed_until,
n.created_at, n.ended_at, n.give_up_at, n.status, n.error

-- name: any_subscription
-- Does:  whether there is anybody to tell. The whole of what an installation without subscriptions asks.
SELECT EXISTS (SELECT FROM flow_subscriptions WHERE enabled) AS found;

-- ---- the feed ----

-- name: begin_feed
-- Does:  begins the feed, if there is none; then it begins with what has not ended now.
INSERT INTO flow_notification_feed (id, seen) VALUES (1, %(seen)s) ON CONFLICT DO NOTHING;

-- name: hold_feed
-- Locks: the feed, waiting for whoever moves it
SELECT id FROM flow_notification_feed WHERE id = 1 FOR UPDATE;

-- name: restart_feed
-- Does:  lets the feed begin anew: nobody was told anything by it.
UPDATE flow_notification_feed SET seen = %(seen)s, until = NULL, tx = NULL, event_id = NULL WHERE id = 1;

-- name: take_feed
-- Out:   none = somebody else moves it, or it has not begun
-- Locks: the feed
SELECT seen, until, tx, event_id FROM flow_notification_feed WHERE id = 1 FOR UPDATE SKIP LOCKED;

-- name: move_feed
UPDATE flow_notification_feed SET seen = %(seen)s, until = %(until)s, tx = %(tx)s, event_id = %(event_id)s WHERE id = 1;

-- name: own_snapshot
-- Does:  which transactions have ended, and which one this is.
-- Out:   text of PostgreSQL's pg_snapshot, and a number
SELECT pg_current_snapshot()::text AS found, pg_current_xact_id()::text::bigint AS own;

-- name: heard
-- Does:  what `told_since` does, of some types only.
-- In:    tx, after, high, open, types, limit
-- Index: ix_flow_events_tx
SELECT e.tx, e.id, e.run_id, r.flow, e.at, e.type, e.step_key, e.attempt, e.facts
  FROM flow_events e JOIN flow_runs r ON r.id = e.run_id
 WHERE e.tx >= %(tx)s AND e.tx < %(high)s AND (e.tx > %(tx)s OR e.id > %(after)s) AND e.tx <> ALL (%(open)s::bigint[])
   AND e.type = ANY (%(types)s)
 ORDER BY e.tx, e.id LIMIT %(limit)s;

-- name: heard_by
-- Does:  what `told_by` does, of some types only.
-- In:    ended, types
-- Index: ix_flow_events_tx
SELECT e.tx, e.id, e.run_id, r.flow, e.at, e.type, e.step_key, e.attempt, e.facts
  FROM flow_events e JOIN flow_runs r ON r.id = e.run_id
 WHERE e.tx = ANY (%(ended)s::bigint[]) AND e.type = ANY (%(types)s) ORDER BY e.tx, e.id;

-- name: errors_of
-- Does:  why runs failed.
-- In:    run_ids
SELECT id, error FROM flow_runs WHERE id = ANY (%(run_ids)s) AND error IS NOT NULL;

-- name: add_notifications
-- Does:  writes what is to be sent; what is there already stays as it is.
-- In:    rows (JSON), give_up
INSERT INTO flow_notifications (id, subscription_id, event_id, run_id, type, at, data, give_up_at)
SELECT id, subscription_id, event_id, run_id, type, at, data, flow_now() + %(give_up)s::interval
  FROM json_to_recordset(%(rows)s::json)
    AS t (id uuid, subscription_id uuid, event_id bigint, run_id uuid, type text, at timestamptz, data json)
ON CONFLICT (subscription_id, event_id) DO NOTHING;

-- ---- sending ----

-- name: claim_notifications
-- Does:  takes what is due, a few for each endpoint: none for one whose breaker is open, and a single one, whoever asks, for one whose
--        breaker was open for long enough. Whoever dies with them loses them when the claim is over.
-- In:    breaker (failures), side_by_side, limit, lease
-- Out:   what to send, and by which subscription
-- Locks: endpoints, then notifications; those that somebody holds are left to them
-- Time:  flow_now()        Index: ix_flow_notifications_pending, ix_flow_notifications_claimed
WITH room AS MATERIALIZED (
  SELECT e.address, e.failures >= %(breaker)s AS probe,
         CASE WHEN e.failures >= %(breaker)s THEN 1 ELSE %(side_by_side)s END
         - (SELECT count(*) FROM flow_subscriptions s JOIN flow_notifications n ON n.subscription_id = s.id
             WHERE s.address = e.address AND n.claimed_until IS NOT NULL AND n.claimed_until > (SELECT flow_now())) AS places
    FROM flow_endpoints e
   WHERE e.open_until IS NULL OR e.open_until <= (SELECT flow_now())
   ORDER BY random() FOR UPDATE OF e SKIP LOCKED  -- slow ones that are first each time would take every place
), due AS MATERIALIZED (
  -- By subscription, as the index has it: a backlog is not read. Several may have the same endpoint.
  SELECT n.id, room.address, room.probe, room.places, n.due_at
    FROM room JOIN flow_subscriptions s ON s.address = room.address AND s.enabled
   CROSS JOIN LATERAL (
         SELECT id, due_at FROM flow_notifications
          WHERE subscription_id = s.id AND state = 'pending' AND due_at <= (SELECT flow_now())
          ORDER BY due_at LIMIT GREATEST(room.places, 0) FOR UPDATE SKIP LOCKED) AS n
), page AS MATERIALIZED (
  SELECT id, address, probe
    FROM (SELECT *, row_number() OVER (PARTITION BY address ORDER BY due_at, id) AS place FROM due) AS numbered
   WHERE place <= places LIMIT %(limit)s
), probed AS (
  UPDATE flow_endpoints e SET open_until = flow_now() + %(lease)s::interval
   WHERE e.address IN (SELECT address FROM page WHERE probe)
)
UPDATE flow_notifications n
   SET claims = n.claims + 1, claimed_until = flow_now() + %(lease)s::interval, due_at = flow_now() + %(lease)s::interval
  FROM page, flow_subscriptions s
 WHERE n.id = page.id AND s.id = n.subscription_id
RETURNING n.id, n.claims, n.tries, n.type, n.at, n.run_id, n.data, n.give_up_at, s.id AS subscription_id, s.name, s.kind, s.address,
          s.include, s.secret, s.fingerprint, s.previous_secret, s.previous_fingerprint,
          COALESCE(s.previous_until > flow_now(), FALSE) AS overlaps;

-- name: add_notification_attempt
-- In:    id, claim, duration_ms, status, error
INSERT INTO flow_notification_attempts (notification_id, attempt, duration_ms, status, error)
VALUES (%(id)s, %(claim)s, %(duration_ms)s, %(status)s, %(error)s) ON CONFLICT DO NOTHING;

-- name: end_notification
-- Does:  writes down what came of a try. One that failed is due again after the pause, or dead.
-- In:    id, claim, state (delivered, dead, or pending: again), pause, status, error
-- Out:   its state; none = its claim was over, and somebody else has it
WITH clock AS MATERIALIZED (
  SELECT now, now + %(pause)s::interval AS again FROM (SELECT flow_now() AS now OFFSET 0) AS c
), next AS (
  SELECT now, again, n.id,
         CASE WHEN %(state)s::text = 'pending' AND again > n.give_up_at THEN 'dead' ELSE %(state)s::text END AS state
    FROM flow_notifications n, clock WHERE n.id = %(id)s
)
UPDATE flow_notifications n
   SET state = next.state, tries = tries + CASE WHEN next.state = 'delivered' THEN 0 ELSE 1 END, due_at = next.again,
       ended_at = CASE WHEN next.state <> 'pending' THEN next.now END, claimed_until = NULL, status = %(status)s, error = %(error)s
  FROM next WHERE n.id = next.id AND n.claims = %(claim)s AND n.state = 'pending'
RETURNING n.state;

-- name: endpoint_answered
-- Does:  closes the breaker.
UPDATE flow_endpoints SET failures = 0, open_until = NULL WHERE address = %(address)s AND (failures > 0 OR open_until IS NOT NULL);

-- name: endpoint_failed
-- Does:  counts a failure; enough of them in a row open the breaker.
-- In:    address, breaker, rest
-- Out:   whether it is open
UPDATE flow_endpoints
   SET failures = failures + 1, open_until = CASE WHEN failures + 1 >= %(breaker)s THEN flow_now() + %(rest)s::interval END
 WHERE address = %(address)s
RETURNING open_until IS NOT NULL AS opened, failures;

-- name: endpoint_unasked
-- Does:  a claim ended before its endpoint was asked: another one may try it.
UPDATE flow_endpoints SET open_until = flow_now() WHERE address = %(address)s AND failures >= %(breaker)s AND open_until IS NOT NULL;

-- ---- people ----

-- name: notifications
-- Does:  what was, is and will be sent, newest first.
-- In:    state (null: all), before (id; null: from the newest), limit
SELECT /*+ notification_columns */
  FROM flow_notifications n JOIN flow_subscriptions s ON s.id = n.subscription_id
 WHERE (%(state)s::text IS NULL OR n.state = %(state)s) AND (%(before)s::uuid IS NULL OR n.id < %(before)s)
 ORDER BY n.id DESC LIMIT %(limit)s;

-- name: notifications_of
-- Does:  the same of one subscription, however much others are told.
-- In:    subscription (name), state (null: all), before (id; null: from the newest), limit
-- Index: ix_flow_notifications_subscription
SELECT /*+ notification_columns */
  FROM flow_subscriptions s,
       LATERAL (SELECT * FROM flow_notifications o
                 WHERE o.subscription_id = s.id AND (%(state)s::text IS NULL OR o.state = %(state)s)
                   AND (%(before)s::uuid IS NULL OR o.id < %(before)s)
                 ORDER BY o.id DESC LIMIT %(limit)s) AS n
 WHERE s.name = %(subscription)s
 ORDER BY n.id DESC;

-- name: notification
SELECT /*+ notification_columns */, n.data
  FROM flow_notifications n JOIN flow_subscriptions s ON s.id = n.subscription_id WHERE n.id = %(id)s;

-- name: notification_attempts
SELECT attempt, at, duration_ms, status, error FROM flow_notification_attempts WHERE notification_id = %(id)s ORDER BY attempt;

-- name: notifications_ending
-- Does:  the newest notifications whose ids end with these digits: first all that share the last four, as of runs.
-- In:    ending (at least four hexadecimal digits, no dashes)
-- Index: ix_flow_notifications_ending
WITH alike AS MATERIALIZED (
  SELECT id FROM flow_notifications WHERE substring(uuid_send(id), 15) = decode(right(%(ending)s::text, 4), 'hex')
)
SELECT id FROM alike
 WHERE right(replace(id::text, '-', ''), length(%(ending)s::text)) = %(ending)s::text ORDER BY id DESC LIMIT 2;

-- name: notification_counts
-- Does:  how many of a subscription that were made in `span` stand how, and how many were begun to be sent once only.
-- In:    id (of the subscription), span
-- Index: primary key
SELECT state, count(*) AS n, count(*) FILTER (WHERE claims = 1) AS at_first FROM flow_notifications
 WHERE subscription_id = %(id)s AND id > /*+ since length=%(span)s */
 GROUP BY state;

-- name: redrive
-- Does:  sends again what was not delivered, now: as if it had happened now, but with the same id. Its attempts stay in the log.
-- In:    ids (null: all that are dead of the subscription), subscription_id (or null), give_up, limit
-- Out:   their ids
WITH page AS MATERIALIZED (
  SELECT id FROM flow_notifications
   WHERE state = 'dead' AND (%(ids)s::uuid[] IS NULL OR id = ANY (%(ids)s::uuid[]))
     AND (%(subscription_id)s::uuid IS NULL OR subscription_id = %(subscription_id)s)
   ORDER BY id LIMIT %(limit)s FOR UPDATE
)
UPDATE flow_notifications n
   SET state = 'pending', tries = 0, due_at = flow_now(), give_up_at = flow_now() + %(give_up)s::interval, ended_at = NULL
  FROM page WHERE n.id = page.id
RETURNING n.id;

-- ---- clearing up ----

-- name: bury_notifications
-- Does:  gives up a page of those that were not delivered in time: of an endpoint that is away, most are never tried again.
-- Out:   how many
WITH page AS MATERIALIZED (
  SELECT id FROM flow_notifications
   WHERE state = 'pending' AND give_up_at < (SELECT flow_now()) AND (claimed_until IS NULL OR claimed_until < (SELECT flow_now()))
   ORDER BY give_up_at LIMIT %(page)s FOR UPDATE SKIP LOCKED
), gone AS (
  UPDATE flow_notifications n SET state = 'dead', ended_at = flow_now(), error = COALESCE(n.error, 'it was not tried in time')
    FROM page WHERE n.id = page.id RETURNING n.id
)
SELECT count(*) AS removed FROM gone;

-- name: drop_notifications
-- Does:  removes a page of those that were made `ttl` ago and are over, with their attempts; an id begins with the time.
-- Out:   how many
-- Time:  flow_now()        Index: primary key
WITH page AS MATERIALIZED (
  SELECT id FROM flow_notifications
   WHERE id < /*+ since length=%(ttl)s */
     AND state <> 'pending' ORDER BY id LIMIT %(page)s FOR UPDATE SKIP LOCKED
), attempts AS (
  DELETE FROM flow_notification_attempts a USING page WHERE a.notification_id = page.id
), gone AS (
  DELETE FROM flow_notifications n USING page WHERE n.id = page.id RETURNING n.id
)
SELECT count(*) AS removed FROM gone;

-- name: drop_notifications_of
-- Does:  removes what subscriptions were told, or are to be told, of a run.
-- In:    run_id
-- Index: ix_flow_notifications_run
WITH gone AS (
  DELETE FROM flow_notifications WHERE run_id = %(run_id)s RETURNING id
)
DELETE FROM flow_notification_attempts a USING gone WHERE a.notification_id = gone.id;

-- name: drop_orphans
-- Does:  removes a page of those whose subscription was deleted.
-- Out:   how many
WITH page AS MATERIALIZED (
  SELECT n.id FROM flow_notifications n
   WHERE NOT EXISTS (SELECT FROM flow_subscriptions s WHERE s.id = n.subscription_id) LIMIT %(page)s
), attempts AS (
  DELETE FROM flow_notification_attempts a USING page WHERE a.notification_id = page.id
), gone AS (
  DELETE FROM flow_notifications n USING page WHERE n.id = page.id RETURNING n.id
)
SELECT count(*) AS removed FROM gone;
