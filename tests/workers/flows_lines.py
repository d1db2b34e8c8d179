"""Steps in which libraries log, from all kinds of threads, and values that no line may have."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from orchestrator import Context, ContextExecutor, Secret, each, flow, step

library = logging.getLogger("a_library")


def in_thread(say: str) -> None:
    thread = threading.Thread(target=library.info, args=[say])
    thread.start()
    thread.join()


@step
def sync(ctx: Context, plain: str, pin: Secret[str]) -> str:
    library.info("sync.plain %d", 1)
    library.debug("sync.debug")
    ctx.log.info("sync.own", extra={"order": 42})
    library.warning("sync.secret %s", pin.reveal())
    in_thread("sync.thread")
    with ThreadPoolExecutor(1) as executor:
        executor.submit(library.info, "sync.pool").result()
    with ContextExecutor(1) as ours:
        ours.submit(library.info, "sync.context").result()
    return f"{plain}-out"


@step
async def waits(value: str) -> str:
    library.info("async.plain")
    await asyncio.sleep(0.01)
    library.info("async.later")
    await asyncio.to_thread(library.info, "async.thread")
    await asyncio.gather(*(_part(number) for number in range(2)))
    return value


async def _part(number: int) -> None:
    await asyncio.sleep(0)
    library.info("async.part %d", number)


@step
def item(number: int, value: str) -> str:
    library.info("item %d", number)
    return f"{value}{number}"


@step(retries=1, backoff=["0s"])
def fails_once(ctx: Context, values: list[str], pin: Secret[str]) -> list[str]:
    library.info("fails.plain")
    if ctx.attempt == 1:
        raise ValueError(f"no such pin: {pin.reveal()}")
    return values


@step
def rages(times: int) -> None:
    for number in range(times):
        library.warning("away %d", number)


@flow(name="storm")
def storm(times: int) -> None:
    rages(times)


@flow(name="lines")
def lines(plain: str, pin: Secret[str]) -> list[str]:
    said = waits(sync(plain, pin))
    return fails_once(each(item, [1, 2, 3], value=said), pin)
