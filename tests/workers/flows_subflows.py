"""A flow that calls a flow that calls a flow, for real workers."""

import os
from pathlib import Path

from orchestrator import Context, each, flow, step


@step
def noted(ctx: Context, number: int) -> int:
    with open(os.environ["TEST_EFFECTS"], "a", encoding="utf-8") as file:
        file.write(f"start {ctx.run_id} {ctx.step_key} {ctx.attempt}\n")
    return number + 1


@step
def fragile(ctx: Context, number: int) -> int:
    """Fails for even numbers as long as nobody has mended it."""
    with open(os.environ["TEST_EFFECTS"], "a", encoding="utf-8") as file:
        file.write(f"start {ctx.run_id} {ctx.step_key} {ctx.attempt}\n")
    if number % 2 == 0 and not Path(os.environ["TEST_EFFECTS"]).with_name("mended").exists():
        raise ValueError(f"{number} is even")
    return number


@flow
def lowest(number: int) -> int:
    return noted(number)


@flow
def middle(number: int) -> int:
    return noted(lowest(noted(number)))


@flow
def highest(number: int) -> int:
    return noted.options(key="last")(middle(number))


@flow
def delicate(number: int) -> int:
    return fragile.options(after=[noted(number)])(number)


@flow
def every(numbers: list[int]) -> list[int]:
    return each(delicate, numbers, concurrency=2)
