-- Test only: every committed change of the ledger, in an order that agrees with the order of commits row by row.
CREATE TABLE proof_history (
  seq bigserial, at timestamptz NOT NULL DEFAULT clock_timestamp(), xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
  table_name text NOT NULL, op text NOT NULL, run_id uuid, step_key text, old jsonb, new jsonb
);
CREATE TABLE proof_effects (key text NOT NULL, attempt int NOT NULL);

-- An update stores only the new row: the old one is the change before. The arguments are columns that are left out.
CREATE FUNCTION proof_record() RETURNS trigger LANGUAGE plpgsql SET intervalstyle = 'iso_8601' SET timezone = 'UTC' AS $$
DECLARE
  row jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
  row := jsonb_strip_nulls(row - COALESCE(TG_ARGV, '{}'));
  INSERT INTO proof_history (table_name, op, run_id, step_key, old, new)
  VALUES (TG_TABLE_NAME, lower(TG_OP), COALESCE(row ->> 'run_id', row ->> 'id')::uuid, row ->> 'step_key',
          CASE TG_OP WHEN 'DELETE' THEN row END, CASE TG_OP WHEN 'DELETE' THEN NULL ELSE row END);
  RETURN NULL;
END $$;
