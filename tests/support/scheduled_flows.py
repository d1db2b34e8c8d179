"""Flows with schedules, for tests of the client and of the command line."""

from datetime import UTC, datetime

from orchestrator import Cron, Every, Schedule, flow, step


@step
def write(region: str) -> str:
    return f"report of {region}"


@flow(
    schedules=[
        Schedule(
            Cron("30 2 * * *", tz="Europe/Paris"),
            key="nightly",
            input={"region": "us"},
            jitter="10m",
            missed="latest",
            window="2h",
            description="For the board.",
        )
    ]
)
def report(region: str = "eu") -> str:
    return write(region)


@flow(schedules=[Every("1h"), Cron("0 7 * * *")])
def twice(region: str = "eu") -> str:
    return write(region)


@flow(schedules=[Schedule(Every("1s"), key="tick", start=datetime(2026, 1, 1, tzinfo=UTC))])
def second(region: str = "eu") -> str:
    return write(region)
