-- name: health
-- Does:  in one look what health is judged by: live workers, those of them that take no messages, live keepers without a worker,
--        schedules that fire, those that are late, and the payload store. The probe of a worker takes a turn through its queue: it may be older than a heartbeat.
-- In:    ttl (of workers), late (how late a tick may be)
SELECT (SELECT count(*) FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s AND pool <> 'keeper') AS workers,
       (SELECT count(*) FROM flow_workers
         WHERE seen_at > flow_now() - %(ttl)s AND pool <> 'keeper'
           AND (consumed_at IS NULL OR consumed_at < flow_now() - 2 * %(ttl)s)) AS deaf,
       (SELECT count(*) FROM flow_workers WHERE seen_at > flow_now() - %(ttl)s AND pool = 'keeper') AS keepers,
       count(*) AS schedules, count(*) FILTER (WHERE s.due_at < flow_now() - %(late)s) AS late,
       (SELECT id FROM flow_payload_stores) AS store,
       split_part(current_setting('server_version'), ' ', 1) AS server
  FROM flow_schedule_states s JOIN flow_definitions d ON d.name = s.flow
 WHERE s.active AND s.paused_at IS NULL AND d.enabled;
