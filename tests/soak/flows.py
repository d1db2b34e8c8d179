"""What the workers of a soak load: the seeded flows, with handlers that log every step they take."""

import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

from celery.signals import task_prerun
from sqlalchemy import text

from orchestrator import Context, Flow, Manifest, step
from tests.proof.recorder import write_line
from tests.soak import mutants
from tests.soak.plans import plans

if mutants.VARIABLE in os.environ:
    mutants.apply(os.environ[mutants.VARIABLE])


class Hopeless(Exception):
    """No attempt will do."""


def _tokens(value: object) -> Iterator[str]:
    """The tokens of all outputs within a structure."""
    if isinstance(value, dict):
        if "token" in value:
            yield value["token"]
        for part in value.values():
            yield from _tokens(part)
    elif isinstance(value, list):
        for part in value:
            yield from _tokens(part)


def _do(ctx: Context, fate: dict[str, Any], seen: object) -> dict[str, Any]:
    """Log, do as the fate says, log again."""
    log, token = os.environ["TEST_EFFECTS"], secrets.token_hex(6)
    facts = {"run": ctx.run_id, "step": ctx.step_key, "attempt": ctx.attempt, "key": ctx.idempotency_key}
    write_line(log, kind="start", token=token, seen=sorted(set(_tokens(seen))), **facts)
    try:
        if fate.get("hang") and ctx.attempt == 1:
            time.sleep(fate["hang"])
        time.sleep(fate.get("s", 0))
        if fate.get("x"):
            raise Hopeless("nothing helps")
        if ctx.attempt <= fate.get("f", 0):
            raise ConnectionError("not yet")
    except Exception:
        write_line(log, kind="error", token=token)
        raise
    write_line(log, kind="end", token=token)
    return {"token": token, "items": fate.get("items", [])}


@step(never_retry=(Hopeless,))
def work(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006  never changed
    return _do(ctx, fate, seen)


@step(transactional=True, never_retry=(Hopeless,))
def pay(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    ctx.tx.execute(
        text("INSERT INTO proof_effects (key, attempt) VALUES (:key, :attempt)"),
        {"key": ctx.idempotency_key, "attempt": ctx.attempt},
    )
    return _do(ctx, fate, seen)


@task_prerun.connect  # type: ignore[untyped-decorator]
def _arrived(args: Any = (), **_: object) -> None:
    """A message was taken and is about to be acted on."""
    if len(args) == 3:
        run_id, step_key, number = args
        write_line(os.environ["TEST_EFFECTS"], kind="message", run=run_id, step=step_key, number=number)


FLOWS = {
    plan.name: Flow.from_manifest(Manifest(**plan.manifest), steps=[work, pay])
    for plan in plans(int(os.environ.get("SOAK_SEED", "0")))
}
globals().update(FLOWS)
