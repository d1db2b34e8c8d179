"""What the workers of a soak load: the seeded flows, with handlers that log every step they take."""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.signals import task_prerun
from sqlalchemy import text

from orchestrator import Context, Flow, Manifest, step
from tests.proof.recorder import write_line
from tests.soak import mutants
from tests.soak.plans import plans, timed
from tests.support import nemesis
from tests.support.foreign import not_yet

if mutants.VARIABLE in os.environ:
    mutants.apply(os.environ[mutants.VARIABLE])
if nemesis.VARIABLE in os.environ:
    nemesis.arm(["claim.committed"])


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


@contextmanager
def _logged(ctx: Context, seen: object) -> Iterator[str]:
    """A line before, and one after unless the handler is torn away; gives the invocation's token."""
    log, token = os.environ["TEST_EFFECTS"], secrets.token_hex(6)
    facts = {"run": ctx.run_id, "step": ctx.step_key, "attempt": ctx.attempt, "key": ctx.idempotency_key}
    write_line(log, kind="start", token=token, seen=sorted(set(_tokens(seen))), **facts)
    try:
        yield token
    except Exception:
        write_line(log, kind="error", token=token)
        raise
    write_line(log, kind="end", token=token)


def _seconds(ctx: Context, fate: dict[str, Any]) -> float:
    """How long it takes."""
    return float(fate.get("s", 0)) + (float(fate.get("hang", 0)) if ctx.attempt == 1 else 0)


def _suffer(ctx: Context, fate: dict[str, Any]) -> None:
    """Fail, if it must."""
    if fate.get("x"):
        raise Hopeless("nothing helps")
    if ctx.attempt <= fate.get("f", 0):
        raise not_yet(ctx.attempt + len(ctx.step_key) + int(ctx.run_id[-2:], 16))


def _output(token: str, fate: dict[str, Any]) -> dict[str, Any]:
    return {"token": token, "items": fate.get("items", [])}


@step(never_retry=(Hopeless,))
def work(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006  never changed
    with _logged(ctx, seen) as token:
        time.sleep(_seconds(ctx, fate))
        _suffer(ctx, fate)
    return _output(token, fate)


@step(never_retry=(Hopeless,))
async def wait(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    with _logged(ctx, seen) as token:
        await asyncio.sleep(_seconds(ctx, fate))
        _suffer(ctx, fate)
    return _output(token, fate)


@step(transactional=True, never_retry=(Hopeless,))
def pay(ctx: Context, fate: dict[str, Any], seen: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    ctx.tx.execute(
        text("INSERT INTO proof_effects (key, attempt) VALUES (:key, :attempt)"),
        {"key": ctx.idempotency_key, "attempt": ctx.attempt},
    )
    with _logged(ctx, seen) as token:
        time.sleep(_seconds(ctx, fate))
        _suffer(ctx, fate)
    return _output(token, fate)


@task_prerun.connect  # type: ignore[untyped-decorator]
def _arrived(args: Any = (), **_: object) -> None:
    """A message was taken and is about to be acted on."""
    if len(args) == 3:
        run_id, step_key, number = args
        write_line(os.environ["TEST_EFFECTS"], kind="message", run=run_id, step=step_key, number=number)


FLOWS = {
    plan.name: Flow.from_manifest(Manifest(**plan.manifest), steps=[work, wait, pay])
    for plan in [*plans(int(os.environ.get("SOAK_SEED", "0"))), *timed(int(os.environ.get("SOAK_STEADY", "1")))]
}
globals().update(FLOWS)
