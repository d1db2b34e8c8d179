"""How data looks on a terminal and in a pipe."""

import io
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from orchestrator.cli import inputs, render, runview, watch
from orchestrator.cli.deep import Stand
from orchestrator.cli.inputs import types_of
from orchestrator.core.secrets import NAMES
from orchestrator.core.states import RunStatus, StepKind, StepStatus
from orchestrator.errors import InputInvalid, UsageError
from orchestrator.ledger.reads.rows import RunRow, StepRow

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STEP = StepRow(
    key="load",
    kind=StepKind.TASK,
    type="load",
    task="demo.load",
    loop_key=None,
    loop_index=None,
    status=StepStatus.RUNNING,
    reason=None,
    attempts=2,
    queue="default",
    due_at=None,
    ready_at=NOW,
    started_at=NOW,
    ended_at=NOW + timedelta(seconds=5),
    children_total=None,
    children_open=None,
    children_failed=None,
    children=None,
    progress={"done": 40, "total": 100, "note": "reading"},
    error=None,
    owner="host/1/a",
)
RUN = RunRow(
    id=UUID("01a1fc8c-aba5-72d2-aa18-c094f2ad1645"),
    flow="demo",
    version="1",
    manifest_hash="x",
    status=RunStatus.RUNNING,
    tags=(),
    trigger="manual",
    key=None,
    body={},
    created_at=NOW,
    started_at=NOW,
    ended_at=NOW + timedelta(seconds=5),
    error=None,
    cancel_requested_at=None,
    cancel_reason=None,
    deadline=None,
    epoch=1,
)


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        (timedelta(0), "0 ms"),
        (timedelta(milliseconds=850), "850 ms"),
        (timedelta(seconds=59.94), "59.9 s"),
        (timedelta(seconds=65), "1m 05s"),
        (timedelta(minutes=192), "3h 12m"),
        (timedelta(hours=52), "2d 04h"),
        (timedelta(seconds=-1), "0 ms"),
    ],
)
def test_lengths_are_short(span: timedelta, shown: str) -> None:
    assert render.length(span) == shown


def test_a_cell_is_one_line_and_commands_no_terminal() -> None:
    assert render.text("a\x1b]0;title\x07b\nsecond") == "a ]0;title b"
    assert render.text(("a", True, None)) == "a, yes, "


@pytest.mark.parametrize("status", ["skipped", "cancelled"])
def test_what_an_operator_said_counts_more_than_an_attempt_before_it(status: str) -> None:
    error: dict[str, Any] = {"type": "OSError", "message": "away"}
    step = replace(STEP, status=StepStatus(status), error=error, reason="skipped by ada: supplier is closed")
    assert runview.remark(step) == "skipped by ada: supplier is closed"
    assert runview.remark(replace(step, status=StepStatus.FAILED)) == "OSError: away"


def test_the_tree_has_bars_and_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = replace(
        STEP,
        key="each",
        kind=StepKind.LOOP,
        type=None,
        attempts=0,
        progress=None,
        children_total=1000,
        children_open=600,
        children={"succeeded": 398, "failed": 2, "ready": 600},
    )
    child = replace(STEP, key="each.0.x", loop_key="each", loop_index=0, status=StepStatus.SUCCEEDED, attempts=1)
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(watch.tree(Stand(RUN, [STEP, child, loop])))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    lines = shown.splitlines()
    assert "demo@1" in lines[0]
    assert "40 of 100, reading" in lines[1]
    assert "━" in lines[1]
    assert "attempt 2" in lines[1]
    assert "398 succeeded, 600 ready, 2 failed" in shown
    assert shown.index("▶ each") < shown.index("each.0.x")  # below its loop


def test_a_live_view_has_the_steps_of_called_runs_below_their_step() -> None:
    call, last = replace(STEP, key="bill", kind=StepKind.FLOW, progress=None), replace(STEP, key="last")
    below = Stand(replace(RUN, id=UUID(int=7), flow="billing"), [replace(STEP, key="charge")])
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(watch.tree(Stand(RUN, [call, last], {"bill": [below, below]})))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    names = ("bill", "billing", "charge", "billing", "charge", "last")
    assert len(lines) == 7
    assert all(name in line for name, line in zip(names, lines[1:], strict=True))
    depths = [len(line) - len(line.lstrip(" │├└─")) for line in lines]
    assert depths == [0, 4, 8, 12, 8, 12, 4]


def test_remarks_say_why() -> None:
    waiting = replace(STEP, status=StepStatus.WAITING, due_at=NOW, error={"type": "OSError", "message": "gone"})
    assert runview.remark(waiting) == "next attempt 03:04:05 UTC; OSError: gone"
    assert runview.remark(replace(STEP, status=StepStatus.SKIPPED, reason="load failed")) == "load failed"
    assert runview.remark(replace(STEP, kind=StepKind.LOOP, type=None, children={})) == "no items"


def test_types_of_a_schema() -> None:
    schema = {"$defs": {"Name": {"type": "string"}}}
    assert types_of({"$ref": "#/$defs/Name"}, schema) == {"string"}
    assert types_of({"anyOf": [{"type": "string"}, {"type": "null"}]}, schema) == {"string", "null"}
    assert types_of({"anyOf": [{"type": "string"}, {}]}, schema) == set()
    assert types_of({"type": ["integer", "null"]}, schema) == {"integer", "null"}
    assert types_of(True, schema) == set()


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (["string", "integer"], "1.10", "1.10"),
        (["string", "integer"], "12", 12),
        (["string", "integer"], "[1]", "[1]"),
        (["string", "array"], "[1]", [1]),
        (["string", "boolean"], "true", True),
        (["string", "number"], "null", "null"),
        (["string", "number"], '"12"', "12"),
        ("string", '"12"', '"12"'),
        ("integer", "many", "many"),
    ],
)
def test_a_parameter_is_json_where_that_fits_its_type(type_: object, text: str, value: object) -> None:
    taken = inputs.Taken({"properties": {"it": {"type": type_}}}, NAMES)
    assert inputs.read(None, [f"it={text}"], taken) == {"it": value}


@pytest.mark.parametrize("text", ["[", '{"a": 1', '"open'])
def test_broken_json_is_told_as_such(text: str) -> None:
    """It was to be JSON, and is not a text of the wrong type."""
    taken = inputs.Taken({"properties": {"lines": {"type": "array"}}}, NAMES)
    with pytest.raises(InputInvalid, match=r"-i lines is not JSON: .* Fix: correct it; in a shell, quote it"):
        inputs.read(None, [f"lines={text}"], taken)


class _Watched:
    """What a run looked like, look by look."""

    client = SimpleNamespace(pause_s=0.0)

    def __init__(self, *looks: tuple[RunRow, StepRow]) -> None:
        self._looks = iter(looks)

    def end(self) -> "Future[RunStatus]":
        """No hint comes."""
        return Future()

    def row(self) -> RunRow:
        self._run, self._step = next(self._looks)
        return self._run

    def steps(self, *, fold: int) -> list[StepRow]:
        return [self._step]


def test_a_run_that_waits_and_goes_on_is_stamped_with_the_time_of_its_step() -> None:
    at = [NOW + timedelta(seconds=second) for second in range(5)]
    run = replace(RUN, ended_at=None)
    step = replace(STEP, attempts=1, progress=None, ended_at=None, since=at[0])
    looks = _Watched(
        (run, step),
        (replace(run, status=RunStatus.WAITING), replace(step, status=StepStatus.WAITING, since=at[1])),
        (run, replace(step, attempts=2, since=at[3])),
        (
            replace(run, status=RunStatus.SUCCEEDED, ended_at=at[4]),
            replace(step, attempts=2, status=StepStatus.SUCCEEDED, since=at[4]),
        ),
    )
    out = io.StringIO()
    watch.lines(looks, None, out)  # type: ignore[arg-type]
    times = [line.split()[1] for line in out.getvalue().splitlines()]
    said = [line.split()[2:4] for line in out.getvalue().splitlines() if "run" in line.split()]
    assert said == [["run", "running"], ["run", "waiting"], ["run", "running"], ["run", "succeeded"]]
    assert times == sorted(times)
    assert len(set(times)) == 4


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["n"], "-i 'n' has no `=`"),
        (["=1"], "-i '=1' has no key"),
        (["n=1", "m=2", "n=3"], "-i n is given twice"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_refused(pairs: list[str], said: str) -> None:
    """The last of two values would win without a word."""
    with pytest.raises(UsageError, match=said):
        inputs.read(None, pairs, inputs.Taken({}, NAMES))
