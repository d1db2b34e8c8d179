"""A flow that calls a flow that calls a flow, for real workers."""

import os

from orchestrator import Context, flow, step


@step
def noted(ctx: Context, number: int) -> int:
    with open(os.environ["TEST_EFFECTS"], "a", encoding="utf-8") as file:
        file.write(f"start {ctx.run_id} {ctx.step_key} {ctx.attempt}\n")
    return number + 1


@flow
def lowest(number: int) -> int:
    return noted(number)


@flow
def middle(number: int) -> int:
    return noted(lowest(noted(number)))


@flow
def highest(number: int) -> int:
    return noted.options(key="last")(middle(number))
