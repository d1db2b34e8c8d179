"""The limit of the database: our own finish statement in pgbench, and the share of it that the chain reaches."""

import re
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import flows
from benchmarks.alone import Ground
from benchmarks.contenders import CHAIN, Ours
from benchmarks.figures import Figure
from benchmarks.processes import BenchFailed
from benchmarks.report import Result, Row
from benchmarks.workloads import Say, Sizes
from orchestrator.core.facts import StartRequest
from orchestrator.core.plan import Plan
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.ledger import migrate, statements
from orchestrator.ledger.tx import Ledger
from orchestrator.servers.embedded import binaries

_CLIENTS: Final = 2
_MIDS: Final = CHAIN - 1
_PAGE: Final = 500
_CHAIN: Final = "steps/s in the chain"
_LIMIT: Final = "pgbench, our finish statement"
_OWNER: Final = "pgbench"
_CLAIMED: Final = f"""
CREATE TABLE numbered AS SELECT id, row_number() OVER () - 1 AS n FROM flow_runs;
UPDATE flow_steps s SET run_id = new.id, status = CASE WHEN s.status = 'ready' THEN 'running' ELSE s.status END,
       queued = FALSE, attempts = CASE WHEN s.status = 'ready' THEN 1 ELSE 0 END
  FROM numbered, LATERAL (SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id) AS new
 WHERE s.run_id = numbered.id;
INSERT INTO flow_step_claims (run_id, step_key, owner, version, attempt, claimed_at, renewed_at, expires_at)
SELECT run_id, step_key, '{_OWNER}', 1, 1, now(), now(), now() + interval '1 hour' FROM flow_steps
 WHERE status = 'running';
UPDATE flow_runs r SET status = 'running', id = ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
  FROM numbered WHERE numbered.id = r.id;
"""
"""Runs numbered from 0 whose first step is claimed: what a worker holds when it finishes a step."""


def finish(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Two clients of pgbench finish and claim as fast as PostgreSQL can; then the chain beside it, each round."""
    program = binaries.postgres().postgres.with_name("pgbench")
    if not program.exists():
        raise BenchFailed("There is no pgbench beside the embedded PostgreSQL. Fix: leave `finish` out with --only.")
    limits, reached = [], []
    with ground.ours(ground.database("reached"), 9, _CHAIN) as ours:
        ours.chains(200)
        for turn in range(sizes.rounds):
            limits.append(_pgbench(program, ground, f"finish{turn}", sizes.finishes))
            reached.append(_steps_per_second(ours, sizes))
            say(f"finish {turn + 1}/{sizes.rounds}: pgbench {limits[-1]:,.0f}/s, the chain {reached[-1]:,.0f} steps/s")
    rows = [Row("finished steps/s", {_CHAIN: Figure.of(reached), _LIMIT: Figure.of(limits)})]
    return Result("The chain and the limit of its database", rows, names=(_CHAIN, _LIMIT))


def _steps_per_second(ours: Ours, sizes: Sizes) -> float:
    count = max(20, sizes.finishes // 8)
    began = time.perf_counter()
    ours.chains(count)
    return count * CHAIN / (time.perf_counter() - began)


def _pgbench(program: Path, ground: Ground, database: str, each: int) -> float:
    """Transactions per second; every one records a success and claims the next step."""
    url = ground.database(database)
    _prepare(url, _CLIENTS * each // _MIDS)
    script = ground.folder / f"{database}.sql"
    script.write_text(_script(each // _MIDS))
    command = [str(program), "--no-vacuum", "-M", "prepared", "-c", str(_CLIENTS), "-j", str(_CLIENTS), "-t", str(each)]
    options = "-c plan_cache_mode=force_generic_plan -c jit=off"
    done = subprocess.run(
        [*command, "-D", "i=-1", "-f", str(script), url],
        env={"PGOPTIONS": options, "LD_LIBRARY_PATH": str(program.parents[1] / "lib")},
        capture_output=True,
        text=True,
    )
    speed = re.search(r"tps = ([\d.]+)", done.stdout)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM flow_outputs").fetchone()
    if done.returncode or speed is None or row != (_CLIENTS * each,):
        raise BenchFailed(f"pgbench did not finish every step ({row}): {done.stderr[-800:]}")
    return float(speed[1])


def _prepare(url: str, runs: int) -> None:
    migrate.upgrade(url)
    ledger = Ledger.connect(url, name="finish")
    try:
        register.register(ledger, flows.chain.manifest)
        for first in range(0, runs, _PAGE):
            start_run.start(ledger, [StartRequest("chain", '{"value": 1}')] * min(_PAGE, runs - first))
    finally:
        ledger.close()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _CLAIMED.split(";\n"):
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")


def _script(runs: int) -> str:
    """One transaction: step `i % 4` of this client's run `i / 4`."""
    keys = list(Plan.of(flows.chain.manifest).nodes)
    lines = ["\\set i :i + 1", f"\\set n :client_id * {runs} + :i / {_MIDS}", f"\\set k :i % {_MIDS}"]
    values = {
        "run_id": "('01900000-0000-7000-8000-' || lpad(to_hex(:n::bigint), 12, '0'))::uuid",
        "version": "1",
        "owner": f"'{_OWNER}'",
        "output": "'1'",
        "inputs": "'{\"value\": 1}'",
        "chain": "TRUE",
        "lease_for": "interval '30 seconds'",
    }
    for k, (key, after) in enumerate(pairwise(keys)):
        text = statements.sql("finish_mid")
        for name, value in {**values, "step_key": f"'{key}'", "next_key": f"'{after}'"}.items():
            text = text.replace(f"%({name})s", value)
        lines += [f"\\{'if' if k == 0 else 'elif'} :k = {k}", f"{' '.join(text.split())};"]
    return "\n".join([*lines, "\\endif", ""])
