"""A module of flows that sets up logging as Python's documentation shows it."""

import logging.config

from orchestrator import Context, flow, step

logging.config.dictConfig(
    {
        "version": 1,
        "handlers": {"all": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["all"], "level": "INFO"},
    }
)


@step
def talk(ctx: Context) -> None:
    ctx.log.info("charged", extra={"order": 42})
    raise ValueError("to see whether the failure is logged")


@flow(name="talking")
def talking() -> None:
    return talk()
