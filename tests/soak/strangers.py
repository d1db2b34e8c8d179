"""Runs that no keeper here can do: their manifest is of a release that nobody runs. They stand before all others, and
must hold up nobody."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import psycopg

from orchestrator import Manifest
from orchestrator.core.facts import Claimant, StartRequest
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import claim_step
from orchestrator.ledger.tx import Ledger
from tests.proof.history import Row

FLOW: Final = "stranger"
COUNT: Final = 500
_STEP: Final = {"type": "work", "queue_timeout": "PT1S"}
_OLD: Final = f"""
UPDATE flow_definition_versions SET manifest = (manifest::jsonb || '{{"newer": 1}}')::json WHERE flow = '{FLOW}';
UPDATE flow_steps SET crashes = 99 WHERE queue = '{FLOW}' AND status = 'running';
"""


def settle(url: str, count: int = COUNT) -> frozenset[str]:
    """Their ids. Half of them wait beyond their queue's timeout, on a queue of their own; the other half were lost with
    their worker, too often to be run again."""
    ledger = Ledger.connect(url, name="strangers")
    try:
        register.register(ledger, Manifest(name=FLOW, queue=FLOW, steps={"a": _STEP}))
        started = start_run.start(ledger, [StartRequest(FLOW, "{}") for _ in range(count)])
        for one in started[::2]:
            lease = claim_step.claim(ledger, one.run_id, "a", 1, Claimant("elsewhere/1/x/2", timedelta(seconds=0.1)))
            assert lease is not None
    finally:
        ledger.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_OLD)
    return frozenset(str(one.run_id) for one in started)


def left_out(
    final: Mapping[str, tuple[Row, ...]], manifests: Mapping[str, Row], theirs: frozenset[str]
) -> tuple[dict[str, tuple[Row, ...]], dict[str, Row]]:
    """The record without them: they are nobody's business."""
    rows = {
        name: tuple(row for row in each if row.get("run_id", row.get("id")) not in theirs)
        for name, each in final.items()
    }
    return rows, {key: one for key, one in manifests.items() if one["name"] != FLOW}
