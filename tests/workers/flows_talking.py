"""Handlers that log and print."""

import asyncio
import logging
import sys

from orchestrator import Context, Secret, flow, step


@step
def talk(ctx: Context, who: str, pin: Secret[str]) -> str:
    print("hello", who)
    ctx.log.info("charged", extra={"order": 42})
    logging.getLogger("shop").warning("the pin is %s", pin.reveal())
    print("to stderr", file=sys.stderr)
    print("no line break", end="")
    return who


@step
async def answer(who: str) -> None:
    print("asking")
    await asyncio.sleep(0)
    await asyncio.to_thread(print, "in a thread")
    logging.getLogger("shop").info("answered %s", who)
    raise ValueError("and failed")


@flow
def talking(who: str, pin: Secret[str]) -> None:
    answer(talk(who, pin))
