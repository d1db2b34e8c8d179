-- name: run_statuses
-- Does:  where runs stand, as stored: `waiting` is stored as `running`. A run that there is not has no row.
-- In:    run_ids
-- Index: primary key
SELECT id, status FROM flow_runs WHERE id = ANY (%(run_ids)s);

-- name: shown_status
SELECT CASE WHEN status = 'running' AND flow_parked(id) THEN 'waiting' ELSE status END AS status
  FROM flow_runs WHERE id = %(run_id)s;

-- name: manifest_of
SELECT manifest_hash FROM flow_runs WHERE id = %(run_id)s;

-- name: plan_for_these
-- Does:  has the statements of this transaction planned for the values they are given. The plan for any value walks through all
--        runs, newest first, to list a flow or a tag that hardly any of them has.
SELECT set_config('plan_cache_mode', 'force_custom_plan', TRUE);

-- name: runs_beginning
-- Does:  a few runs whose id lies between two.
-- In:    low, high (32 hexadecimal digits)
SELECT id FROM flow_runs WHERE id BETWEEN %(low)s::uuid AND %(high)s::uuid ORDER BY id LIMIT 5;

-- name: runs_ending
-- Does:  a few runs whose id ends with these digits, the newest first. First all that share the last four: asked for in one
--        go, a planner that has no statistics of the index walks through every run until five are found.
-- In:    ending (at least four hexadecimal digits, no dashes)
-- Index: ix_flow_runs_ending
WITH alike AS MATERIALIZED (
  SELECT id FROM flow_runs WHERE substring(uuid_send(id), 15) = decode(right(%(ending)s::text, 4), 'hex')
)
SELECT id FROM alike
 WHERE right(replace(id::text, '-', ''), length(%(ending)s::text)) = %(ending)s::text
 ORDER BY id DESC LIMIT 5;

-- name: steps
-- Does:  these steps of a run, in any order; loops without their children. `worked` is the time of its attempts, without the pauses
--        between them.
-- In:    run_id, step_keys
-- Index: primary keys
SELECT s.step_key, /*+ kind */ AS kind, s.type, s.task, s.loop_key, s.loop_index, s.status, s.reason, s.attempts, s.queue, s.due_at, s.ready_at,
       s.started_at, s.ended_at, s.children_open, s.children_failed, s.polls, s.wake_at, s.child_run_id,
       CASE WHEN s.kind = 'wait' AND s.status = 'waiting' THEN
         (SELECT CASE w.kind WHEN 'approval' THEN 'an answer of ' || w.assignee
                             ELSE 'signal ' || w.signal || CASE WHEN w.key <> '' THEN ' with key ' || w.key ELSE '' END END
            FROM flow_signal_waiters w WHERE w.run_id = %(run_id)s AND w.step_key = s.step_key) END AS awaits,
       CASE WHEN c.expires_at IS NOT NULL THEN c.progress END AS progress,
       CASE WHEN c.expires_at IS NOT NULL THEN c.owner END AS owner,
       a.error_type, a.error_message, a.started_at AS tried_at, a.ended_at AS tried_until,
       (SELECT sum(COALESCE(w.ended_at, flow_now()) - w.started_at) FROM /*+ attempts_of step=s.step_key */ AS w) AS worked
  FROM flow_steps s
  LEFT JOIN LATERAL (SELECT expires_at, progress, owner FROM flow_step_claims
                      WHERE run_id = %(run_id)s AND step_key = s.step_key OFFSET 0) AS c ON TRUE
  LEFT JOIN LATERAL (SELECT error_type, error_message, started_at, ended_at FROM /*+ attempts_of step=s.step_key */ AS t
                      WHERE attempt = s.attempts OFFSET 0) AS a ON TRUE
 WHERE s.run_id = %(run_id)s AND s.step_key = ANY (%(step_keys)s);

-- name: count_children
-- Does:  counts the children of loops by status.
-- In:    run_id, loop_keys
SELECT l.key AS loop_key, c.status, c.n
  FROM unnest(%(loop_keys)s::text[]) AS l(key)
 CROSS JOIN LATERAL (SELECT status, count(*) AS n FROM flow_steps
                      WHERE run_id = %(run_id)s AND step_key >= l.key || '.' AND step_key < l.key || '/'
                        AND loop_key = l.key GROUP BY status) AS c;

-- name: children_with
-- Does:  the next children of a loop with one of these statuses, in order.
-- In:    run_id, loop_key, statuses, start (index), limit
SELECT step_key FROM flow_steps
 WHERE run_id = %(run_id)s AND step_key >= %(loop_key)s || '.' AND step_key < %(loop_key)s || '/'
   AND loop_key = %(loop_key)s AND status = ANY (%(statuses)s) AND loop_index >= %(start)s
 ORDER BY loop_index LIMIT %(limit)s;

-- name: events
SELECT id, at, type, step_key, attempt, facts FROM flow_events
 WHERE run_id = %(run_id)s AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: whole_history
-- Does:  what `events` does where only essential ones are kept: starts, successes and dispatches that were not written are derived
--        from attempts, claims and dispatches. A dispatch that was written is known by its moment: its event has no number. A run
--        begins by the statement that claims its first step, a moment later. Polls after the first are no events in either.
-- In:    run_id, after (an `id` of this statement), limit
-- Out:   as `events`; `id` is the time in microseconds. Those of the last moment are never parted: a page may be longer.
WITH told AS MATERIALIZED (
  SELECT at, type, step_key, attempt, facts FROM flow_events WHERE run_id = %(run_id)s
), known AS (
  SELECT a.started_at AS at, 'step.started' AS type, s.step_key, a.attempt
    FROM flow_steps s, LATERAL /*+ attempts_of step=s.step_key */ AS a WHERE s.run_id = %(run_id)s AND s.attempts > 0
     AND (s.polls = 0 OR NOT EXISTS (SELECT FROM flow_step_attempts p
                                      WHERE p.run_id = %(run_id)s AND p.step_key = s.step_key AND p.status = 'polled'
                                        AND p.attempt < a.attempt))
  UNION ALL
  SELECT ended_at, 'step.succeeded', step_key, attempt
    FROM flow_step_attempts WHERE run_id = %(run_id)s AND status = 'succeeded'
  UNION ALL
  SELECT created_at, 'step.dispatched', step_key, NULL FROM flow_step_dispatches d WHERE run_id = %(run_id)s
     AND (dispatch_no = 1 OR NOT EXISTS (SELECT FROM flow_steps s
                                          WHERE s.run_id = %(run_id)s AND s.step_key = d.step_key AND s.polls > 0))
), moment AS (
  SELECT (EXTRACT(epoch FROM at) * 1000000)::bigint AS id, at, type, step_key, attempt, facts
    FROM (SELECT CASE WHEN type = 'run.started'
                      THEN LEAST(at, (SELECT min(at) FROM known WHERE type = 'step.started') - interval '1 microsecond')
                      ELSE at END AS at, type, step_key, attempt, facts FROM told
          UNION ALL
          SELECT at, type, step_key, attempt, NULL FROM known k
           WHERE NOT EXISTS (SELECT FROM told t WHERE t.type = k.type AND t.step_key = k.step_key AND t.attempt = k.attempt)
             AND NOT EXISTS (SELECT FROM told t
                              WHERE k.attempt IS NULL AND t.type = k.type AND t.step_key = k.step_key
                                AND t.at BETWEEN k.at - interval '1 second' AND k.at + interval '1 second')) AS h
)
SELECT id, at, type, step_key, attempt, facts FROM moment WHERE id > %(after)s ORDER BY id FETCH FIRST (%(limit)s) ROWS WITH TIES;

-- name: attempts
-- Does:  the last attempts of a step, the newest first.
-- In:    run_id, step_key, before (an attempt's number; null: all), limit
SELECT attempt, version, owner, status, error_type, error_message, error_traceback, inputs, queue_wait, started_at, ended_at,
       error_fingerprint
  FROM /*+ attempts_of step=%(step_key)s */ AS a
 WHERE attempt < COALESCE(%(before)s::int, 2147483647)
 ORDER BY attempt DESC LIMIT %(limit)s;

-- name: deploys_of
-- Does:  how often a stopping worker left the step, and how often it was handed back before that.
SELECT deploys, (SELECT count(*) FROM flow_step_attempts
                  WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = 'released' AND error_type = 'HandedBack') AS handed_back
  FROM flow_steps WHERE run_id = %(run_id)s AND step_key = %(step_key)s;

-- name: dispatch_facts
SELECT d.published_at, d.publish_count, d.suppressed, d.created_at, d.task, d.queue
  FROM flow_step_dispatches d JOIN flow_steps s ON s.run_id = d.run_id AND s.step_key = d.step_key AND s.dispatch_no = d.dispatch_no
 WHERE d.run_id = %(run_id)s AND d.step_key = %(step_key)s;

-- name: lease_facts
-- Does:  the live lease of a step, and when its worker was seen last. No row: none.
SELECT c.renewed_at, c.expires_at, w.seen_at FROM flow_step_claims c LEFT JOIN flow_workers w ON starts_with(c.owner, w.id)
 WHERE c.run_id = %(run_id)s AND c.step_key = %(step_key)s AND c.expires_at IS NOT NULL
 ORDER BY w.seen_at DESC NULLS LAST LIMIT 1;

-- name: servers_of
-- Does:  how many live workers have a handler that takes steps of this version, and how many of them listen to its queue.
-- In:    task, queue, pair (task@manifest hash), flow, hash, ttl
-- Out:   `same`: those of them whose code has this very version; `refused` says why, by the id of the worker, where its code does
--        not fit
SELECT count(*) FILTER (WHERE %(task)s = ANY (handlers)) AS with_handler,
       count(*) FILTER (WHERE %(task)s = ANY (handlers) AND NOT jsonb_exists(refuses, %(pair)s)) AS able,
       count(*) FILTER (WHERE %(task)s = ANY (handlers) AND NOT jsonb_exists(refuses, %(pair)s) AND %(queue)s = ANY (queues))
         AS listening,
       count(*) FILTER (WHERE %(task)s = ANY (handlers) AND versions->>%(flow)s = %(hash)s AND %(queue)s = ANY (queues)) AS same,
       count(*) FILTER (WHERE pool <> 'keeper') AS live,
       json_object_agg(id, refuses->>%(pair)s) FILTER (WHERE jsonb_exists(refuses, %(pair)s)) AS refused
  FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s;

-- name: ahead
-- Does:  ready steps of the same queue that became ready before.
SELECT count(*) AS ahead FROM flow_steps
 WHERE queued AND queue = %(queue)s AND priority <= %(priority)s AND ready_at < %(ready_at)s;

-- name: open_predecessors
SELECT step_key, status FROM flow_steps WHERE run_id = %(run_id)s AND step_key = ANY (%(step_keys)s);

-- name: flows
-- Does:  one flow (by `name`), or a page of all: those behind `after` (null: from the first), `most` of them (null: all).
SELECT d.name, d.version, d.manifest_hash, d.enabled, d.updated_at, d.switched_by, d.switch_reason,
       (SELECT count(*) FROM flow_runs r WHERE r.flow = d.name AND r.ended_at IS NULL) AS open_runs,
       (SELECT ordinal FROM flow_definition_versions v WHERE v.hash = d.manifest_hash) AS ordinal
  FROM flow_definitions d
 WHERE d.name = COALESCE(%(name)s::text, d.name) AND (%(after)s::text IS NULL OR d.name > %(after)s)
 ORDER BY d.name LIMIT %(most)s;

-- name: current_versions
SELECT name, manifest_hash FROM flow_definitions;

-- name: versions
-- Does:  the versions of a flow in their order, each with the runs that are open on it.
-- In:    flow; after (the hash of the last one before; null: from the first), most (null: all)
SELECT v.ordinal, v.hash, v.version, v.format, v.created_at, v.registered_by, v.superseded_at, v.hash = d.manifest_hash AS current,
       COALESCE(open.runs, 0) AS open_runs
  FROM flow_definitions d JOIN flow_definition_versions v ON v.flow = d.name
  LEFT JOIN (SELECT manifest_hash, count(*) AS runs FROM flow_runs WHERE flow = %(flow)s AND ended_at IS NULL
              GROUP BY manifest_hash) AS open ON open.manifest_hash = v.hash
 WHERE d.name = %(flow)s
   AND (%(after)s::text IS NULL
        OR (v.created_at, v.hash) > (SELECT created_at, hash FROM flow_definition_versions WHERE hash = %(after)s))
 ORDER BY v.created_at, v.hash LIMIT %(most)s;

-- name: open_steps
-- Does:  how many open runs of a flow have yet to end a step, by version. Children of loops are left out: their loop is open too.
SELECT r.manifest_hash, s.step_key, count(*) AS runs
  FROM flow_runs r JOIN flow_steps s ON s.run_id = r.id
 WHERE r.flow = %(flow)s AND r.ended_at IS NULL AND s.loop_key IS NULL AND s.status IN ('blocked', 'ready', 'running', 'waiting')
 GROUP BY r.manifest_hash, s.step_key;

-- name: given_outputs
-- Does:  what a step gave in open runs of a version that have yet to end another one, which reads it; the newest of them.
-- In:    flow, version (manifest hash), step_key (whoever reads), source (whose output), limit
-- Out:   output, payload (where the output is instead, if it is not null)
SELECT o.output,
       CASE WHEN o.output IS NULL AND o.reference IS NOT NULL
            THEN json_build_object('store', o.store, 'reference', o.reference, 'size', o.size_bytes, 'sha256', o.sha256) END AS payload
  FROM flow_runs r
  JOIN flow_steps s ON s.run_id = r.id AND s.step_key = %(step_key)s AND s.status IN ('blocked', 'ready', 'running', 'waiting')
  JOIN flow_outputs o ON o.run_id = r.id AND o.step_key = %(source)s
 WHERE r.flow = %(flow)s AND r.manifest_hash = %(version)s AND r.ended_at IS NULL
 ORDER BY r.id DESC LIMIT %(limit)s;

-- name: wanted_versions
-- Does:  the versions that are current, and those that open runs are pinned to, with how many.
SELECT v.flow, v.hash AS manifest_hash, v.ordinal, d.manifest_hash IS NOT NULL AS current, COALESCE(open.runs, 0) AS runs
  FROM flow_definition_versions v
  LEFT JOIN flow_definitions d ON d.name = v.flow AND d.manifest_hash = v.hash
  LEFT JOIN (SELECT manifest_hash, count(*) AS runs FROM flow_runs WHERE ended_at IS NULL GROUP BY manifest_hash) AS open
         ON open.manifest_hash = v.hash
 WHERE d.name IS NOT NULL OR open.runs IS NOT NULL
 ORDER BY v.flow, v.created_at DESC, v.hash;

-- name: workers
SELECT id, host, pid, pool, concurrency, prefetch, queues, handlers, release, started_at, seen_at, consumed_at,
       seen_at > flow_now() - %(ttl)s AS live, versions, refuses, payload_store, label, drain_at, drain_by, stopping_at
  FROM flow_workers ORDER BY host, pid;

-- name: replica_lag
-- Does:  how many seconds this standby is behind its primary. 0: it has replayed all that came, and something still comes; or it is
--        none. Without a stream, since its last commit: nobody knows what has not come.
SELECT CASE WHEN NOT pg_is_in_recovery() THEN 0
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
            ELSE COALESCE(EXTRACT(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'Infinity')
       END::float8 AS lag_s;

-- name: server_sessions
-- Does:  how many sessions the server lets in, and what is open: in all, of this database, and of those in the middle of something.
SELECT current_setting('max_connections')::int AS limit, /*+ reserved_sessions */ AS reserved,
       current_setting('max_connections')::int - /*+ reserved_sessions */ AS allowed, s.*
  FROM (SELECT count(*) FILTER (WHERE datid IS NOT NULL) AS open, count(*) FILTER (WHERE datname = current_database()) AS here,
               count(*) FILTER (WHERE datname = current_database() AND state <> 'idle') AS busy
          FROM pg_stat_activity) s;

-- name: unserved
-- Does:  tasks with ready steps that no live worker takes: none has the handler on that queue, or all that have it refuse the
--        version. Which version a step is of is looked up only where a worker refuses some.
-- Out:   `refused`: how many of them are refused by every worker that has the handler
WITH live AS MATERIALIZED (
  SELECT handlers, queues, refuses FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s
)
SELECT s.task, s.queue, count(*) AS ready, min(s.ready_at) AS since, count(*) FILTER (WHERE has.handler) AS refused
  FROM flow_steps s,
       LATERAL (SELECT EXISTS (SELECT FROM live w WHERE s.task = ANY (w.handlers) AND s.queue = ANY (w.queues)) AS handler) AS has
 WHERE s.queued
   AND NOT EXISTS (SELECT FROM live w WHERE s.task = ANY (w.handlers) AND s.queue = ANY (w.queues)
                      AND CASE WHEN w.refuses = '{}' THEN TRUE
                               ELSE NOT jsonb_exists(w.refuses, s.task || '@' || (SELECT manifest_hash FROM flow_runs
                                                                                   WHERE id = s.run_id)) END)
 GROUP BY s.task, s.queue ORDER BY s.task, s.queue;

-- name: now
SELECT flow_now() AS now;

-- name: identity
-- Does:  which database this is: the same for two connections if and only if they write the same tables.
SELECT (SELECT system_identifier FROM pg_control_system()) AS server,
       (SELECT oid FROM pg_database WHERE datname = current_database()) AS database, to_regclass('flow_runs')::oid AS runs;

-- name: queues
-- Does:  for each queue that has ready or running steps, or live workers: how many, since when, and who takes from it.
-- In:    ttl (of workers)
-- Index: ix_flow_steps_ready, ix_flow_step_claims_live
WITH ready AS (
  SELECT queue, count(*) AS n, min(ready_at) AS oldest FROM flow_steps WHERE queued GROUP BY queue
), running AS (
  SELECT s.queue, count(*) AS n FROM flow_step_claims c JOIN flow_steps s USING (run_id, step_key)
   WHERE c.expires_at IS NOT NULL GROUP BY s.queue
), served AS (
  SELECT queue, array_agg(w.id ORDER BY w.id) AS workers FROM flow_workers w, unnest(w.queues) AS queue
   WHERE w.seen_at > flow_now() - %(ttl)s GROUP BY queue
)
SELECT queue, COALESCE(ready.n, 0) AS ready, ready.oldest, COALESCE(running.n, 0) AS running,
       COALESCE(served.workers, '{}') AS workers
  FROM ready FULL JOIN running USING (queue) FULL JOIN served USING (queue) ORDER BY queue;
