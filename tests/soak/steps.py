"""The steps of a soak, as two releases have them: the second takes one parameter more."""

from typing import Any, Final

from orchestrator import Context, step
from orchestrator.workers.state import AnyStep
from tests.soak import handlers
from tests.soak.handlers import Hopeless

Fate = dict[str, Any]
Seen = list[Any]


@step(never_retry=(Hopeless,))
def work(ctx: Context, fate: Fate, seen: Seen = []) -> Fate:  # noqa: B006  never changed
    return handlers.work(ctx, fate, seen)


@step(never_retry=(Hopeless,))
async def wait(ctx: Context, fate: Fate, seen: Seen = []) -> Fate:  # noqa: B006
    return await handlers.wait(ctx, fate, seen)


@step(transactional=True, never_retry=(Hopeless,))
def pay(ctx: Context, fate: Fate, seen: Seen = []) -> Fate:  # noqa: B006
    return handlers.pay(ctx, fate, seen)


@step(key="work", never_retry=(Hopeless,))
def work_more(ctx: Context, fate: Fate, seen: Seen = [], more: str = "") -> Fate:  # noqa: B006
    return handlers.work(ctx, fate, seen)


@step(key="wait", never_retry=(Hopeless,))
async def wait_more(ctx: Context, fate: Fate, seen: Seen = [], more: str = "") -> Fate:  # noqa: B006
    return await handlers.wait(ctx, fate, seen)


@step(key="pay", transactional=True, never_retry=(Hopeless,))
def pay_more(ctx: Context, fate: Fate, seen: Seen = [], more: str = "") -> Fate:  # noqa: B006
    return handlers.pay(ctx, fate, seen)


STEPS: Final[tuple[AnyStep, ...]] = (work, wait, pay)
MORE: Final[tuple[AnyStep, ...]] = (work_more, wait_more, pay_more)
