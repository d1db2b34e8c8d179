"""Steps that run when their worker is told to stop."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import text

from orchestrator import Context, flow, step
from tests.workers.flows import effect


def _lasts(ctx: Context, gate: str) -> bool:
    """Ten minutes, unless the file is there."""
    ends = time.monotonic() + 600
    while time.monotonic() < ends:
        if os.path.exists(gate):
            return True
        time.sleep(0.02)
    return False


@step
def long(ctx: Context, gate: str) -> int:
    effect("start", ctx)
    _lasts(ctx, gate)
    effect("end", ctx)
    return ctx.attempt


@flow(name="long")
def long_flow(gate: str) -> int:
    return long(gate)


@step
async def long_async(ctx: Context, gate: str) -> int:
    effect("start", ctx)
    try:
        while not os.path.exists(gate):
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        effect("cancelled", ctx)
        raise
    return ctx.attempt


@flow(name="long_async")
def long_async_flow(gate: str) -> int:
    return long_async(gate)


@step
def with_a_program(ctx: Context, gate: str) -> int:
    """The program writes down its pid, and goes on for as long as it lives."""
    if not os.path.exists(gate):
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(f"{gate}.pid").write_text(str(program.pid))
        effect("start", ctx)
        program.wait()
    return ctx.attempt


@flow(name="with_a_program")
def with_a_program_flow(gate: str) -> int:
    return with_a_program(gate)


def _place(folder: str) -> int:
    file = Path(folder) / "place"
    return int(file.read_text()) if file.exists() else 0


@step
def in_pieces(ctx: Context, folder: str, pieces: int) -> int:
    """Goes on where it was."""
    effect("start", ctx)
    for piece in range(_place(folder), pieces):
        if ctx.stopping:
            effect("hands_over", ctx, piece)
            return ctx.hand_over()
        effect("piece", ctx, piece)
        (Path(folder) / "place").write_text(str(piece + 1))
        _pause(folder, piece)
    return ctx.attempt


def _pause(folder: str, piece: int) -> None:
    """In the third piece, until somebody says so."""
    ends = time.monotonic() + 60
    while piece == 2 and not (Path(folder) / "on").exists() and time.monotonic() < ends:
        time.sleep(0.02)


@flow(name="in_pieces")
def in_pieces_flow(folder: str, pieces: int) -> int:
    return in_pieces(folder, pieces)


@step
async def async_pieces(ctx: Context, folder: str) -> int:
    effect("start", ctx)
    while not (Path(folder) / "on").exists():
        if ctx.stopping:
            raise ctx.hand_over()
        await asyncio.sleep(0.02)
    return ctx.attempt


@flow(name="async_pieces")
def async_pieces_flow(folder: str) -> int:
    return async_pieces(folder)


@step(transactional=True)
def pay_and_hand_over(ctx: Context, folder: str) -> int:
    """Writes first: that is rolled back."""
    effect("start", ctx)
    ctx.tx.execute(text("INSERT INTO test_payments (key, amount) VALUES (:key, 1)"), {"key": ctx.idempotency_key})
    while not (Path(folder) / "on").exists():
        if ctx.stopping:
            ctx.hand_over()
        time.sleep(0.02)
    return ctx.attempt


@flow(name="pay_and_hand_over")
def pay_and_hand_over_flow(folder: str) -> int:
    return pay_and_hand_over(folder)
