"""A flow whose steps tell the time they are for."""

from sqlalchemy import text

from orchestrator import Context, flow, step


def told(ctx: Context) -> str | None:
    """Asked twice: the second time from memory."""
    first, second = ctx.scheduled_for, ctx.scheduled_for
    assert first is second
    return first.isoformat() if first is not None else None


@step
def plain(ctx: Context) -> str | None:
    return told(ctx)


@step
async def awaited(ctx: Context) -> str | None:
    return told(ctx)


@step(transactional=True)
def within(ctx: Context) -> str | None:
    ctx.tx.execute(text("SELECT 1"))
    return told(ctx)


@flow(name="times")
def times() -> list[str | None]:
    return [plain(), awaited(), within()]
