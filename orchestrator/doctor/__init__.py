"""What a machine can check about an installation: each check is a small function that gives findings.

ground.py    what the checks look at: settings, and connections if they could be made
findings.py  what a check says
database.py  broker.py  workers.py  payloads.py  schedules.py   the checks
api.py       those of an installation that is reached by its API
"""

from orchestrator.doctor import broker, database, payloads, schedules, workers
from orchestrator.doctor.findings import Finding, Status, failed
from orchestrator.doctor.ground import Ground
from orchestrator.settings import Settings

__all__ = ["Finding", "Status", "examine"]

CHECKS = (*database.CHECKS, *broker.CHECKS, *workers.CHECKS, *payloads.CHECKS, *schedules.CHECKS)


def examine(settings: Settings) -> list[Finding]:
    """Every finding, in order. A check that cannot run is itself a finding; nothing is raised."""
    found: list[Finding] = []
    with Ground(settings) as ground:
        for check in CHECKS:
            try:
                found += check(ground)
            except Exception as exc:
                fix = "act on this message."
                found.append(failed(check.__name__.replace("_", " "), f"{type(exc).__name__}: {exc}", fix))
    return found
