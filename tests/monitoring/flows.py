"""Flows of a site that is watched."""

from orchestrator import Every, Schedule, after, flow, sleep, step


@step
def write(number: int) -> int:
    return number


@step(retries=1, backoff=[0.2])
def stumble(number: int) -> int:
    raise ValueError(f"{number} is not for me")


@step(queue="lonely")
def apart(number: int) -> int:
    return number


@flow
def steady(number: int = 1) -> int:
    return write(number)


@flow
def failing(number: int = 1) -> int:
    return stumble(number)


@flow
def lonely(number: int = 1) -> int:
    """Its step goes to a queue that most workers do not take from."""
    return apart(number)


@flow
def sleeping(number: int = 1) -> int:
    with after(sleep("1d")):
        return write(number)


@flow(schedules=[Schedule(Every("5s"), key="often", missed="skip")])
def ticking(number: int = 1) -> int:
    return write(number)
