"""What a check says."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is."""

    PASS = "pass"  # as it should be
    WARN = "warn"  # works now, and will hurt
    FAIL = "fail"  # does not work, or loses work


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` is empty when there is nothing to do."""

    check: str
    status: Status
    finding: str
    fix: str = ""


def passed(check: str, finding: str) -> Finding:
    """All is well."""
    return Finding(check, Status.PASS, finding)


def warned(check: str, finding: str, fix: str) -> Finding:
    """It will hurt."""
    return Finding(check, Status.WARN, finding, fix)


def failed(check: str, finding: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(check, Status.FAIL, finding, fix)
