-- What happened in all runs, in the order in which others can know it. Ids of events are given before their transactions commit, so
-- whoever goes on after the last id misses what a slower transaction commits later. `tx` is the id of the transaction that wrote an
-- event: two snapshots say which transactions ended between them, however long those lasted, and what they wrote is told then.

-- name: snapshot
-- Does:  which transactions have ended.
-- Out:   text of PostgreSQL's pg_snapshot
SELECT pg_current_snapshot()::text AS found;

-- name: last_told
-- Does:  the last transaction of which there is an event; 0 = there is none.
-- Index: ix_flow_events_tx
SELECT COALESCE(max(tx), 0) AS found FROM flow_events WHERE tx IS NOT NULL;

-- name: told_since
-- Does:  a page of events of transactions that began after a snapshot and had ended at a later one.
-- In:    tx, after (the last event that is known: others of that transaction, and later ones), high (of transactions, below),
--        open (those that had not ended), limit
-- Index: ix_flow_events_tx
SELECT e.tx, e.id, e.run_id, r.flow, e.at, e.type, e.step_key, e.attempt, e.facts
  FROM flow_events e LEFT JOIN flow_runs r ON r.id = e.run_id
 WHERE e.tx >= %(tx)s AND e.tx < %(high)s AND (e.tx > %(tx)s OR e.id > %(after)s) AND e.tx <> ALL (%(open)s::bigint[])
 ORDER BY e.tx, e.id LIMIT %(limit)s;

-- name: told_by
-- Does:  the events of transactions that had begun before a snapshot, and have ended since.
-- In:    ended
-- Index: ix_flow_events_tx
SELECT e.tx, e.id, e.run_id, r.flow, e.at, e.type, e.step_key, e.attempt, e.facts
  FROM flow_events e LEFT JOIN flow_runs r ON r.id = e.run_id
 WHERE e.tx = ANY (%(ended)s::bigint[]) ORDER BY e.tx, e.id;

-- name: forget_foreign
-- Does:  takes the transaction from a page of events that another server wrote, before their ledger was copied here: no transaction
--        of this one has that id yet, and the one that will is another.
-- In:    page
-- Out:   one row for each
-- Index: ix_flow_events_tx
UPDATE flow_events e SET tx = NULL
  FROM (SELECT run_id, id FROM flow_events
         WHERE tx >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint ORDER BY tx LIMIT %(page)s) AS f
 WHERE e.run_id = f.run_id AND e.id = f.id RETURNING e.id;
