"""What the handlers of a soak do, whatever release they are of: they log every step they take."""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from sqlalchemy import text

from orchestrator import Context, HandedOver, NotYet
from tests.proof.recorder import write_line
from tests.support.foreign import not_yet


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
    except (Exception, HandedOver):
        write_line(log, kind="error", token=token)
        raise
    write_line(log, kind="end", token=token)


def _seconds(ctx: Context, fate: dict[str, Any]) -> float:
    """How long it takes."""
    return float(fate.get("s", 0)) + (float(fate.get("hang", 0)) if ctx.attempt == 1 else 0)


def _pieces(ctx: Context, fate: dict[str, Any]) -> Iterator[float]:
    """It, in short naps. In a third of the runs a step hands over as soon as its worker is told to stop; the others are
    handed back when their worker's grace is over."""
    ends = monotonic() + _seconds(ctx, fate)
    while (left := ends - monotonic()) > 0:
        if ctx.stopping and int(ctx.run_id[-2:], 16) % 3 == 0:
            ctx.hand_over()
        yield min(left, 0.1)


def _suffer(ctx: Context, fate: dict[str, Any]) -> None:
    """Fail, if it must."""
    if fate.get("x"):
        raise Hopeless("nothing helps")
    if ctx.attempt <= fate.get("f", 0):
        raise not_yet(ctx.attempt + len(ctx.step_key) + int(ctx.run_id[-2:], 16))
    if fate.get("says") == "not yet" and not _is_ready(ctx, fate):
        raise NotYet("it is not there")


def _output(ctx: Context, token: str, fate: dict[str, Any]) -> dict[str, Any]:
    pad = {"pad": "x" * fate["pad"]} if "pad" in fate else {}
    return {"token": token, "items": fate.get("items", []), "ready": _is_ready(ctx, fate), **pad}


def _is_ready(ctx: Context, fate: dict[str, Any]) -> bool:
    return ctx.poll is None or ctx.poll.number > fate.get("polls", 0)


def work(ctx: Context, fate: dict[str, Any], seen: list[Any]) -> dict[str, Any]:
    with _logged(ctx, seen) as token:
        for nap_s in _pieces(ctx, fate):
            time.sleep(nap_s)
        _suffer(ctx, fate)
    return _output(ctx, token, fate)


async def wait(ctx: Context, fate: dict[str, Any], seen: list[Any]) -> dict[str, Any]:
    with _logged(ctx, seen) as token:
        for nap_s in _pieces(ctx, fate):
            await asyncio.sleep(nap_s)
        _suffer(ctx, fate)
    return _output(ctx, token, fate)


def pay(ctx: Context, fate: dict[str, Any], seen: list[Any]) -> dict[str, Any]:
    ctx.tx.execute(
        text("INSERT INTO proof_effects (key, attempt) VALUES (:key, :attempt)"),
        {"key": ctx.idempotency_key, "attempt": ctx.attempt},
    )
    return work(ctx, fate, seen)
