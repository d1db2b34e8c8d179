"""What the audit says: data for programs, a table for people."""

from io import StringIO

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from examples.package_audit.record import State


class Finding(BaseModel):
    """A file that is not what RECORD says, or that cannot be compared."""

    distribution: str
    path: str
    state: State
    reason: str


class Checked(BaseModel):
    """One distribution. `unverifiable` counts files by reason; the usual ones are not among the findings."""

    name: str
    version: str
    files: int = 0
    intact: int = 0
    modified: int = 0
    missing: int = 0
    unverifiable: dict[str, int] = {}
    findings: list[Finding] = []


class Environment(BaseModel):
    python: str
    platform: str
    prefix: str
    attempts: int
    """How often it was asked for before it was told."""


class Report(BaseModel):
    headline: str
    environment: Environment
    distributions: int
    files: int
    intact: int
    modified: int
    missing: int
    unverifiable: dict[str, int]
    findings: list[Finding]
    checked: list[Checked]


def table(report: Report, largest: int = 15, width: int = 110) -> str:
    """The report to read: headline, the distributions with findings and the `largest` others, every finding."""
    text = StringIO()
    console = Console(file=text, width=width, highlight=False, color_system=None)
    console.print(report.headline)
    console.print(f"Python {report.environment.python} on {report.environment.platform}, {report.environment.prefix}\n")
    console.print(_distributions(report, largest))
    if report.findings:
        console.print(_findings(report))
    return text.getvalue()


def _distributions(report: Report, largest: int) -> Table:
    grid = Table("distribution", "version")
    for column in ("files", "intact", "modified", "missing", "unverifiable"):
        grid.add_column(column, justify="right")
    ill = {finding.distribution for finding in report.findings}
    ordered = sorted(report.checked, key=lambda one: (one.name not in ill, -one.files, one.name))
    shown = max(largest, len(ill))
    for one in ordered[:shown]:
        grid.add_row(one.name, one.version, *_counts(one))
    if rest := ordered[shown:]:
        grid.add_row(f"… {len(rest)} more", "", *_counts(merged(rest)))
    grid.add_section()
    grid.add_row("all", "", *_counts(merged(report.checked)))
    return grid


def _counts(one: Checked) -> list[str]:
    numbers = (one.files, one.intact, one.modified, one.missing, sum(one.unverifiable.values()))
    return [f"{number:,}" for number in numbers]


def _findings(report: Report) -> Table:
    grid = Table("file", "of", "is", "because", title="Findings", title_justify="left")
    for one in report.findings:
        grid.add_row(one.path, one.distribution, one.state, one.reason)
    return grid


def merged(checked: list[Checked]) -> Checked:
    """The sums."""
    unverifiable: dict[str, int] = {}
    for one in checked:
        for reason, count in one.unverifiable.items():
            unverifiable[reason] = unverifiable.get(reason, 0) + count
    return Checked(
        name="all",
        version="",
        files=sum(one.files for one in checked),
        intact=sum(one.intact for one in checked),
        modified=sum(one.modified for one in checked),
        missing=sum(one.missing for one in checked),
        unverifiable=unverifiable,
    )
