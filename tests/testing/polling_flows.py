"""Flows with steps that poll."""

from datetime import datetime

from pydantic import BaseModel

from orchestrator import Context, NotYet, Poll, each, flow, step


class Delivery(BaseModel):
    place: str
    done: bool = False


def track(number: str) -> Delivery:
    """The carrier, which tests replace."""
    raise NotImplementedError


@step(poll=Poll(every="10s", timeout="2m"), retries=1, backoff=["1s"])
def parcel(number: str) -> Delivery:
    seen = track(number)
    if not seen.done:
        raise NotYet(f"is in {seen.place}")
    return seen


@step(poll=Poll(every="10s", timeout="2m", until=lambda seen: seen.done))
async def watched(number: str) -> Delivery:
    return track(number)


@step(poll=Poll(every="10s", timeout="2m", min_attempts=3))
def thrice(ctx: Context) -> tuple[int, datetime, datetime]:
    assert ctx.poll is not None
    return ctx.poll.number, ctx.poll.started, ctx.poll.deadline


@step
def note(seen: Delivery) -> str:
    return seen.place


@step
def careless(number: str) -> str:
    raise NotYet("no idea")


@flow
def delivery(number: str) -> str:
    return note(parcel(number))


@flow
def watching(number: str) -> str:
    return note(watched(number))


@flow
def counted() -> tuple[int, datetime, datetime]:
    return thrice()


@flow
def carelessly(number: str) -> str:
    return careless(number)


@flow
def many(numbers: list[str]) -> list[Delivery]:
    return each(parcel, numbers)
