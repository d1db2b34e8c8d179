-- What is looked for by time is compared with `(SELECT flow_now())`: the clock itself is volatile, and an index is not searched for
-- what may change while it is read; it would be read from end to end. Expired claims are few, and a planner cannot know: LATERAL
-- with OFFSET 0 looks their steps and runs up one by one, where a join may read all runs there ever were. A page of rows that
-- are done one by one begins behind (`begin`, `begin_run`, `begin_step`), the last row of the page before it: rows that cannot
-- be done would come back as the first page for ever. Its `at` is text, which carries the time to the microsecond. `manifest_hash`
-- is that of a row whose manifest has to be read, so that one that cannot be read is tried once, not for each of its rows.

-- part: deploy
-- Whether the worker of claim `c` was told to stop: then nobody crashed. An owner is its worker's id and a name behind it.
EXISTS (SELECT FROM flow_workers w WHERE w.id = substring(c.owner FROM '^(.*)/') AND w.stopping_at IS NOT NULL)

-- part: put_back
-- RUNNING to READY, at the cost of one crash each, or of one deploy; of nothing, when they are handed back. `lost` holds the claims,
-- locked: run_id, step_key, version, deploy.
-- In:    why (text: why their own worker hands them back; null: it does not, they were lost)
ended AS (
  /*+ claim_ended from=FROM lost; which=c.run_id = lost.run_id AND c.step_key = lost.step_key AND c.version = lost.version */
), tried AS (
  SELECT ended.*, lost.deploy, s.ready_at
    FROM ended JOIN lost USING (run_id, step_key),
         LATERAL (SELECT ready_at FROM flow_steps WHERE run_id = ended.run_id AND step_key = ended.step_key OFFSET 0) AS s
), attempt AS (
  /*+ attempt_ended of=tried; at=flow_now(); status=CASE WHEN deploy THEN 'released' ELSE 'crashed' END; columns=error_type, error_message;
    values=CASE WHEN {why} IS NULL THEN 'WorkerLost' ELSE 'HandedBack' END,
           COALESCE({why}, CASE WHEN deploy THEN 'its worker was told to stop, and ended before the step did'
                                ELSE 'the worker died, or could not renew its lease' END) */
  /*+ or_written_before */
), step AS (
  UPDATE flow_steps s
     SET (/*+ ready_columns */) = (/*+ made_ready when=TRUE; otherwise=NULL; number=s.dispatch_no; limit=s.queue_timeout */),
         crashes = s.crashes + (NOT lost.deploy AND {why} IS NULL)::int, deploys = s.deploys + (lost.deploy AND {why} IS NULL)::int
    FROM ended JOIN lost USING (run_id, step_key)
   WHERE s.run_id = ended.run_id AND s.step_key = ended.step_key AND s.status = 'running'
  RETURNING s.run_id, s.step_key, s.dispatch_no, s.task, s.queue, s.priority, ended.attempt, ended.version, lost.deploy
), dispatch AS (
  /*+ dispatched of=step */
), event AS (
  INSERT INTO flow_events (run_id, type, step_key, attempt)
  SELECT run_id, CASE WHEN deploy THEN 'step.released' ELSE 'step.lease_expired' END, step_key, attempt FROM step
  [[UNION ALL
  SELECT run_id, 'step.dispatched', step_key, NULL FROM step]]
)

-- name: requeue_expired
-- Does:  a page of steps whose lease ran out are READY again. In one statement, so that nothing is read that another keeper
--        already writes, and no keeper can fall asleep between its reading and its writing. What another keeper, a renewal, a
--        claim or a cancel holds is left for the next time; steps of halted runs, and those lost too often, for `expired`.
-- In:    page, crash_limit, deploy_limit
-- Out:   the dispatches, with version and attempt of the claim that was lost, and whether its worker was told to stop
-- Locks: runs FOR KEY SHARE and claims, waiting for none of them; then their attempts and steps
-- Time:  flow_now()        Index: ix_flow_step_claims_live
WITH lost AS MATERIALIZED (
  SELECT c.run_id, c.step_key, c.version, w.deploy
    FROM flow_step_claims c,
         LATERAL (SELECT crashes, deploys FROM flow_steps WHERE run_id = c.run_id AND step_key = c.step_key OFFSET 0) AS s,
         LATERAL (SELECT /*+ deploy */ AS deploy OFFSET 0) AS w,
         LATERAL (SELECT FROM flow_runs r WHERE id = c.run_id AND r.halt IS NULL FOR KEY SHARE SKIP LOCKED) AS r
   WHERE c.expires_at IS NOT NULL AND c.expires_at < (SELECT flow_now())
     AND CASE WHEN w.deploy THEN s.deploys < %(deploy_limit)s ELSE s.crashes < %(crash_limit)s END
   ORDER BY c.expires_at
   LIMIT %(page)s
     FOR NO KEY UPDATE OF c SKIP LOCKED
), /*+ put_back why=NULL::text */
SELECT run_id, step_key, dispatch_no, task, queue, priority, version, attempt, deploy FROM step;

-- name: expired
-- Does:  a page of claims whose lease ran out and whose step may not run again: its run is halted, or it was lost too often.
-- In:    page, begin, begin_run, begin_step, crash_limit, deploy_limit
-- Out:   at, run_id, step_key, version, attempt, owner, crashes, deploys, deploy, halted, manifest_hash
-- Time:  flow_now()        Index: ix_flow_step_claims_live
SELECT c.expires_at::text AS at, c.run_id, c.step_key, c.version, c.attempt, c.owner, s.crashes, s.deploys, w.deploy, r.halted, r.manifest_hash
  FROM flow_step_claims c,
       LATERAL (SELECT crashes, deploys FROM flow_steps WHERE run_id = c.run_id AND step_key = c.step_key OFFSET 0) AS s,
       LATERAL (SELECT /*+ deploy */ AS deploy OFFSET 0) AS w,
       LATERAL (SELECT halt IS NOT NULL AS halted, manifest_hash FROM flow_runs WHERE id = c.run_id OFFSET 0) AS r
 WHERE c.expires_at IS NOT NULL AND c.expires_at < (SELECT flow_now()) AND (r.halted OR CASE WHEN w.deploy THEN s.deploys >= %(deploy_limit)s ELSE s.crashes >= %(crash_limit)s END)
   AND c.expires_at >= %(begin)s::timestamptz
   AND (c.expires_at, c.run_id, c.step_key) > (%(begin)s::timestamptz, %(begin_run)s::uuid, %(begin_step)s::text)
 ORDER BY c.expires_at, c.run_id, c.step_key
 LIMIT %(page)s;

-- part: held
-- The live claims of a worker process, or of one of its pool children.
-- In:    owner, prefix (owner followed by '/%%'), page, stopping (it was told to stop, whatever its row says)
SELECT c.run_id, c.step_key, c.version, c.attempt, c.owner, s.crashes, s.deploys, r.halt IS NOT NULL AS halted,
       %(stopping)s OR /*+ deploy */ AS deploy
  FROM flow_step_claims c
  JOIN flow_steps s ON s.run_id = c.run_id AND s.step_key = c.step_key
  JOIN flow_runs r ON r.id = c.run_id
 WHERE c.expires_at IS NOT NULL AND (c.owner = %(owner)s OR c.owner LIKE %(prefix)s)
 LIMIT %(page)s

-- name: held_by
-- Does:  finds them, but for those that somebody writes at this moment.
/*+ held */
   FOR UPDATE OF c SKIP LOCKED
   FOR KEY SHARE OF r SKIP LOCKED;

-- name: held_still
-- Does:  finds all of them, also those that are being renewed or finished: whoever ends one waits for that.
/*+ held */;

-- name: requeue_lost
-- Does:  the steps of a worker that is known to be dead are READY again; each quotes the version it was read at. A run that was
--        halted meanwhile is left alone: nobody could take its step again.
-- In:    run_ids, step_keys, versions, deploys (bool: was its worker told to stop?), why (null; or why their own worker hands
--        them back)
-- Out:   the dispatches
-- Locks: runs FOR KEY SHARE (against a halt under way) and claims, in key order, then attempts and steps
WITH lost AS MATERIALIZED (
  SELECT c.run_id, c.step_key, c.version, t.deploy
    FROM unnest(%(run_ids)s::uuid[], %(step_keys)s::text[], %(versions)s::bigint[], %(deploys)s::bool[])
           AS t(run_id, step_key, version, deploy)
    JOIN flow_step_claims c USING (run_id, step_key, version)
    JOIN flow_runs r ON r.id = c.run_id
   WHERE c.expires_at IS NOT NULL AND r.halt IS NULL AND c.step_key = ANY (%(step_keys)s::text[])
   ORDER BY c.run_id, c.step_key
     FOR KEY SHARE OF r FOR NO KEY UPDATE OF c
), /*+ put_back why=%(why)s::text */
SELECT run_id, step_key, dispatch_no, task, queue, priority FROM step;

-- name: end_sessions
-- Does:  ends the transactions in which lost attempts of transactional steps still hold what they wrote: the next attempt
--        would wait for it, and fail. A claim that was renewed meanwhile keeps its transaction.
-- In:    names (of the sessions), run_ids, step_keys, versions
SELECT pg_terminate_backend(a.pid)
  FROM unnest(%(names)s::text[], %(run_ids)s::uuid[], %(step_keys)s::text[], %(versions)s::bigint[])
         AS t(name, run_id, step_key, version)
  JOIN pg_stat_activity a ON a.application_name = t.name
 WHERE a.datname = current_database() AND a.usename = current_user
   AND NOT EXISTS (SELECT FROM flow_step_claims c WHERE c.run_id = t.run_id AND c.step_key = t.step_key
                      AND c.version = t.version AND c.expires_at IS NOT NULL);

-- name: due
-- Does:  WAITING to READY for steps whose time has come. One that was polled before has no event for that.
-- In:    page
-- Out:   the dispatches; then a row of its own: `next_s`, the seconds until the next timer, null when none is set, whether a
--        step, or a run that begins later, is `to_wake` now, and whether a run is `untold` that has ended. Idle keepers ask for
--        all that at once
-- Time:  flow_now()        Index: ix_flow_steps_due, ix_flow_steps_wake, ix_flow_run_controls_start, ix_flow_runs_untold
WITH page AS MATERIALIZED (
  SELECT run_id, step_key FROM flow_steps
   WHERE due_at <= (SELECT flow_now()) AND status = 'waiting' ORDER BY due_at LIMIT %(page)s FOR NO KEY UPDATE SKIP LOCKED
), step AS (
  UPDATE flow_steps s
     SET (/*+ ready_columns */) = (/*+ made_ready when=TRUE; otherwise=NULL; number=s.dispatch_no; limit=s.queue_timeout */),
         due_at = NULL
    FROM page
   WHERE s.run_id = page.run_id AND s.step_key = page.step_key AND s.status = 'waiting'
  RETURNING s.run_id, s.step_key, s.dispatch_no, s.task, s.queue, s.priority, s.polls
), dispatch AS (
  /*+ dispatched of=step */
)[[, event AS (
  INSERT INTO flow_events (run_id, type, step_key) SELECT run_id, 'step.dispatched', step_key FROM step WHERE polls = 0
)]]
SELECT run_id, step_key, dispatch_no, task, queue, priority, NULL::float AS next_s, NULL::bool AS to_wake, NULL::bool AS untold
  FROM step
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
       EXTRACT(epoch FROM LEAST((SELECT min(due_at) FROM flow_steps WHERE due_at > (SELECT flow_now())),
                                (SELECT min(wake_at) FROM flow_steps WHERE wake_at > (SELECT flow_now())),
                                (SELECT min(start_at) FROM flow_run_controls WHERE NOT closed AND start_at > (SELECT flow_now())))
                           - flow_now())::float,
       EXISTS (SELECT FROM flow_steps WHERE wake_at <= (SELECT flow_now()) AND status = 'waiting')
       OR EXISTS (SELECT FROM flow_run_controls WHERE NOT closed AND start_at <= (SELECT flow_now())),
       EXISTS (SELECT FROM flow_runs WHERE NOT parent_told AND ended_at IS NOT NULL);

-- name: to_wake
-- Does:  waiting steps whose time has come and that have no handler, and runs that were to begin later: whoever finds them holds
--        their run, and looks again.
-- In:    page, late (an interval: their time came so long ago), begin, begin_run, begin_step
-- Out:   at, run_id, step_key ('' for a run), manifest_hash
-- Time:  flow_now()        Index: ix_flow_steps_wake, ix_flow_run_controls_start
SELECT at::text AS at, run_id, step_key, (SELECT manifest_hash FROM flow_runs r WHERE r.id = run_id) AS manifest_hash
  FROM ((SELECT wake_at AS at, run_id, step_key FROM flow_steps
          WHERE wake_at <= (SELECT flow_now() - %(late)s::interval) AND wake_at >= %(begin)s::timestamptz AND status = 'waiting'
            AND (wake_at, run_id, step_key) > (%(begin)s::timestamptz, %(begin_run)s::uuid, %(begin_step)s::text COLLATE "C")
          ORDER BY wake_at, run_id, step_key LIMIT %(page)s)
        UNION ALL
        (SELECT start_at, run_id, '' FROM flow_run_controls
          WHERE NOT closed AND start_at <= (SELECT flow_now() - %(late)s::interval) AND start_at >= %(begin)s::timestamptz
            AND (start_at, run_id, '') > (%(begin)s::timestamptz, %(begin_run)s::uuid, %(begin_step)s::text COLLATE "C")
          ORDER BY start_at, run_id LIMIT %(page)s)) AS found
 ORDER BY found.at, run_id, step_key LIMIT %(page)s;

-- name: still_to_wake
-- Does:  looks at the times of waiting steps again. The caller holds their runs.
-- In:    run_ids, step_keys (of any of them)
SELECT run_id, step_key FROM flow_steps
 WHERE run_id = ANY (%(run_ids)s) AND step_key = ANY (%(step_keys)s) AND status = 'waiting' AND wake_at <= (SELECT flow_now())
 ORDER BY wake_at, run_id, step_key;

-- name: open_later
-- Does:  those of these runs begin whose time has come. The caller holds them.
-- In:    run_ids
UPDATE flow_run_controls SET start_at = NULL
 WHERE run_id = ANY (%(run_ids)s) AND NOT closed AND start_at <= (SELECT flow_now())
RETURNING run_id;

-- name: past_deadline
-- Does:  open runs past their deadline that nobody stopped yet.
-- In:    page, begin, begin_run
-- Out:   at, run_id, step_key (''), manifest_hash (null)
-- Time:  flow_now()        Index: ix_flow_run_controls_deadline
SELECT deadline::text AS at, run_id, '' AS step_key, NULL AS manifest_hash FROM flow_run_controls
 WHERE NOT closed AND deadline IS NOT NULL AND timed_out_at IS NULL AND cancel_requested_at IS NULL
   AND deadline < (SELECT flow_now()) AND (deadline, run_id) > (%(begin)s::timestamptz, %(begin_run)s::uuid)
 ORDER BY deadline, run_id LIMIT %(page)s;

-- name: still_late
-- Does:  looks at a deadline again. The caller holds the run.
SELECT TRUE AS late FROM flow_run_controls
 WHERE run_id = %(run_id)s AND NOT closed AND timed_out_at IS NULL AND cancel_requested_at IS NULL AND deadline < flow_now();

-- name: past_queue_deadline
-- Does:  ready steps that nobody claimed in time.
-- In:    page, begin, begin_run, begin_step
-- Out:   at, run_id, step_key, dispatch_no, manifest_hash
-- Time:  flow_now()        Index: ix_flow_steps_queue_deadline
SELECT queue_deadline::text AS at, run_id, step_key, dispatch_no,
       (SELECT manifest_hash FROM flow_runs r WHERE r.id = run_id) AS manifest_hash
  FROM flow_steps
 WHERE queue_deadline < (SELECT flow_now())
   AND (queue_deadline, run_id, step_key) > (%(begin)s::timestamptz, %(begin_run)s::uuid, %(begin_step)s::text COLLATE "C")
 ORDER BY queue_deadline, run_id, step_key LIMIT %(page)s;

-- name: still_ready
-- Does:  locks a step if it is still waiting at that dispatch. One that a claim holds is being claimed: waiting for it here,
--        with the run locked, would be a deadlock.
SELECT queue_timeout FROM flow_steps
 WHERE run_id = %(run_id)s AND step_key = %(step_key)s AND status = 'ready' AND dispatch_no = %(number)s
   AND queue_deadline < flow_now()
   FOR NO KEY UPDATE SKIP LOCKED;

-- name: overrun
-- Does:  live claims of one worker that are past their step timeout, or whose run was halted and the grace is over. Live claims
--        are many, and are read only while something is due, whoever has it: the earliest time of each kind shows that.
-- In:    owner, prefix, page, begin, begin_run, begin_step
-- Out:   at (stop_at, or the end of the grace), run_id, step_key, version, owner, timed_out, manifest_hash
-- Time:  flow_now()        Index: ix_flow_step_claims_stop, ix_flow_run_controls_grace, ix_flow_step_claims_live
WITH halted AS MATERIALIZED (
  SELECT run_id, grace_ends_at FROM flow_run_controls
   WHERE NOT closed AND grace_ends_at IS NOT NULL AND grace_ends_at < (SELECT flow_now())
), found AS (
  SELECT stop_at AS at, run_id, step_key, version, owner, TRUE AS timed_out
    FROM flow_step_claims
   WHERE expires_at IS NOT NULL AND stop_at < (SELECT flow_now())
     AND (SELECT min(stop_at) FROM flow_step_claims WHERE expires_at IS NOT NULL AND stop_at IS NOT NULL) < (SELECT flow_now())
  UNION ALL
  SELECT h.grace_ends_at, c.run_id, c.step_key, c.version, c.owner, FALSE
    FROM flow_step_claims c JOIN halted h USING (run_id)
   WHERE c.expires_at IS NOT NULL AND (c.stop_at < (SELECT flow_now())) IS NOT TRUE AND (SELECT count(*) FROM halted) > 0
)
SELECT at::text AS at, run_id, step_key, version, owner, timed_out,
       (SELECT manifest_hash FROM flow_runs r WHERE r.id = run_id) AS manifest_hash
  FROM found
 WHERE (owner = %(owner)s OR owner LIKE %(prefix)s)
   AND (at, run_id, step_key) > (%(begin)s::timestamptz, %(begin_run)s::uuid, %(begin_step)s::text COLLATE "C")
 ORDER BY found.at, run_id, step_key LIMIT %(page)s;
