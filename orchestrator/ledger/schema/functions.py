"""Functions of the database."""

FUNCTIONS = {
    "flow_now": """\
CREATE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
AS 'SELECT clock_timestamp()'""",
    "flow_refuse": """\
CREATE FUNCTION flow_refuse(reason text) RETURNS integer LANGUAGE plpgsql
AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''FLOW1'', MESSAGE = reason; END'""",
    "flow_parked": """\
CREATE FUNCTION flow_parked(run uuid) RETURNS boolean LANGUAGE plpgsql STABLE
AS 'BEGIN
  RETURN EXISTS (SELECT FROM flow_steps WHERE run_id = run AND status = ''waiting'')
     AND NOT EXISTS (SELECT FROM flow_steps
                      WHERE run_id = run AND (queued OR status = ''running''
                             AND COALESCE(kind, CASE WHEN type IS NULL THEN ''loop'' ELSE ''task'' END) = ''task''));
END'""",
}
"""`flow_now`: the one clock of the ledger. `flow_refuse`: takes back a whole statement that met a case it is not
for. `flow_parked`: of an open run only parked steps are left; then people see it as `waiting`."""
