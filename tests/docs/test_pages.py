"""Tables, links and names in the pages are those of the code."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import orchestrator
from orchestrator import AsyncClient, Client, Context, RunHandle, Settings, errors
from orchestrator.authoring.options import StepOptions
from orchestrator.client.ahandles import AsyncRunHandle, AsyncScheduleHandle
from orchestrator.client.schedule_handle import ScheduleHandle
from orchestrator.core.durations import format_duration
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.triggers import ScheduleOptions
from orchestrator.ledger.schema import metadata
from orchestrator.observe import logs
from orchestrator.settings import variable
from tests.docs import pages

REFERENCE = "docs/reference.md"
OPERATIONS = "docs/operations.md"


def _names(page: str, heading: str, number: int = 0) -> list[str]:
    """The first word of each row's first cell, without backticks and arguments."""
    cells = [row[0] for row in pages.table(pages.section(page, heading), number)]
    return [re.split(r"[=(]", name.lstrip("."))[0] for cell in cells for name in pages.code(cell)]


@pytest.mark.parametrize("path", pages.paths(), ids=pages.name_of)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", pages.prose(pages.name_of(path)))
    inside = [link.partition("#")[0] for link in links if not re.match(r"\w+:", link)]
    assert [link for link in inside if link and not (path.parent / link).exists()] == []


def _links(path: Path) -> set[Path]:
    """The pages and folders of pages that a page leads to."""
    links = re.findall(r"\]\(([^):\s]+)\)", pages.prose(pages.name_of(path)))
    found = {(path.parent / link.partition("#")[0]).resolve() for link in links}
    return {
        page for place in found for page in (place.glob("*.md") if place.is_dir() else [place]) if page.suffix == ".md"
    }


def test_the_readme_leads_to_every_page() -> None:
    found, left = set(), {pages.ROOT / "README.md"}
    while left:
        found |= left
        left = {page for path in left for page in _links(path)} - found
    assert [path for path in pages.paths() if path not in found] == []


def test_no_drawing_is_empty() -> None:
    assert all(len(block.lines) > 2 for block in pages.blocks("mermaid"))


@pytest.mark.parametrize("path", pages.paths(), ids=pages.name_of)
def test_no_page_names_a_place_on_one_machine(path: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)/\S*", path.read_text(encoding="utf-8")) == []


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = pages.table(pages.section(REFERENCE, "Settings"))
    assert [(row[0], row[1]) for row in rows] == [
        (f"`{variable(name)}`", _default(field.default)) for name, field in Settings.model_fields.items()
    ]
    assert all(row[2] for row in rows)


def _default(value: object) -> str:
    if hasattr(value, "total_seconds"):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if value and isinstance(value, tuple):
        return ",".join(str(one) for one in value)
    return "none" if value in (None, (), {}) else str(value)


def test_the_table_of_errors_is_that_of_the_code() -> None:
    known = {
        (f"`{name}`", f"`{kind.code}`", str(kind.exit_code))
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OrchestratorError)
    }
    rows = [tuple(row[:3]) for row in pages.table(pages.section(REFERENCE, "Errors"))]
    assert len(rows) == len(set(rows))
    assert set(rows) == known


def test_every_option_of_a_step_is_described() -> None:
    assert set(_names(REFERENCE, "Steps")) == set(StepOptions.__dataclass_fields__)


def test_every_option_of_a_flow_is_described() -> None:
    assert set(_names(REFERENCE, "Flows")) == importlib.import_module("orchestrator.authoring.flow")._OPTIONS


def test_the_whole_context_is_described() -> None:
    known = {name for name in vars(Context()) if not name.startswith("_")} - {"signals"}
    known |= {name for name in vars(Context) if not name.startswith("_")}
    assert set(_names(REFERENCE, "The Context")) == known


def test_every_option_of_one_call_is_described() -> None:
    """Those of `step.options(…)`."""
    given = set(inspect.signature(orchestrator.Step.options).parameters) - {"self"}
    text = pages.section(REFERENCE, "Flows").partition("changes one call:")[2].partition(". ")[0]
    assert set(pages.code(text)) == given


def test_the_fields_of_a_manifest_are_those_of_the_code() -> None:
    text = pages.section(REFERENCE, "Manifests")
    flow, _, rest = re.sub(r"\(.*?\)", "", text.partition("A manifest: ")[2], flags=re.DOTALL).partition("A step: ")
    steps, _, _ = rest.partition("`Manifest.model_json_schema")
    assert set(pages.code(flow)) == {field.alias or name for name, field in Manifest.model_fields.items()}
    assert set(pages.code(steps)) == set(StepDef.model_fields)


def test_the_client_has_what_is_described_and_so_has_the_awaited_one() -> None:
    described = _names(REFERENCE, "Client")
    known = {name for kind in (Client, RunHandle) for name in dir(kind)} | {"id", "created"}
    assert {name.removeprefix("handle.") for name in described} <= known
    for awaited, plain in ((AsyncClient, Client), (AsyncRunHandle, RunHandle)):
        mine = {name.removeprefix("handle.") for name in described} & set(dir(plain))
        assert mine <= set(dir(awaited))


def test_all_of_a_schedules_handle_is_described_and_awaited() -> None:
    described = {name.removeprefix("handle.") for name in _names(REFERENCE, "Client", 1)} - {"flow", "key"}
    assert described == {name for name in vars(ScheduleHandle) if not name.startswith("_")}
    assert described <= set(vars(AsyncScheduleHandle))


def test_every_option_of_a_schedule_is_described() -> None:
    known = set(inspect.signature(orchestrator.schedule).parameters) - {"flow", "rule"}
    assert set(_names("docs/schedules.md", "Schedules")) == known
    assert set(ScheduleOptions.model_fields) | {"key"} == known
    (row,) = [row[0] for row in pages.table(pages.section(REFERENCE, "Schedules")) if "schedule(flow" in row[0]]
    assert {name for name in known if f"{name}=" in row} == known


def test_every_table_of_the_ledger_is_described() -> None:
    assert set(_names(OPERATIONS, "The tables")) == set(metadata.tables)


def test_the_log_says_what_is_described() -> None:
    """Codes are numbers of `orchestrator/observe/logs.py`; events are written somewhere in the code."""
    folders = (pages.ROOT / "workers", pages.ROOT / "schedules", pages.ROOT / "orchestrator")
    source = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    codes = {str(value) for name, value in vars(logs).items() if name.isupper() and isinstance(value, int)}
    rows = pages.table(pages.section(OPERATIONS, "The log"))
    assert {row[0] for row in rows} == codes | {"1010"}
    without_code = pages.section(OPERATIONS, "The log").partition("Without a code")[2]
    events = [event for row in rows for event in pages.code(row[1])]
    events += [event for event in pages.code(without_code) if re.fullmatch(r"\w+\.\w+", event)]
    assert [event for event in events if not _logged(event, source)] == []


def _logged(event: str, source: str) -> bool:
    """Some begin with the name of what logs them."""
    return f'"{event}"' in source or re.search(rf"\{{[\w.]+\}}\.{event.partition('.')[2]}\"", source) is not None


def test_the_variables_that_pages_name_exist() -> None:
    named = {name for path in pages.paths() for name in re.findall(r"\bORCHESTRATOR_[A-Z_]+\b", path.read_text())}
    assert {name.removesuffix("_FILE") for name in named} <= {variable(field) for field in Settings.model_fields}


def test_the_names_that_pages_import_are_public() -> None:
    text = "".join(block.text for block in pages.blocks("python"))
    named = [
        name for line in re.findall(r"^from orchestrator import (.*)$", text, re.MULTILINE) for name in line.split(", ")
    ]
    assert named
    assert set(named) <= set(orchestrator.__all__)
