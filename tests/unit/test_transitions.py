"""Every move of a step is written by a statement that is listed here, and each kind of write by one SQL part."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

from orchestrator.core.states import STEP_MOVES, StepEvent, StepStatus, sources
from orchestrator.ledger import statements

S, E = StepStatus, StepEvent
Moves = set[tuple[StepStatus, StepEvent]]


def every(event: StepEvent) -> Moves:
    return {(StepStatus(source), event) for source in sources(event)}


FINISHED: Moves = {(S.RUNNING, E.SUCCEED)}
HANDED_ON: Moves = {(S.BLOCKED, E.UNBLOCK), (S.BLOCKED, E.CLAIM)}
WRITERS: dict[str, Moves] = {
    "claim": {(S.READY, E.CLAIM)},
    "finish_mid": FINISHED | HANDED_ON,
    "finish_child": FINISHED | HANDED_ON,
    "finish_sink": FINISHED,
    "finish_open": FINISHED | every(E.EXPAND),
    "finish_last": FINISHED | HANDED_ON,
    "finish_item": FINISHED | {(S.BLOCKED, E.DELEGATE)},
    "finish_general": FINISHED,
    "collect": FINISHED,
    "collect_outcomes": FINISHED,
    "ready": every(E.UNBLOCK),
    "release": every(E.RELEASE),
    "requeue_expired": every(E.LEASE_EXPIRE),
    "requeue_lost": every(E.LEASE_EXPIRE),
    "due": every(E.DUE),
    "park": every(E.BACK_OFF),
    "poll_again": every(E.POLL),
    "park_wait": {(S.BLOCKED, E.PARK), (S.BLOCKED, E.SUCCEED)},
    "end_wait": {(S.WAITING, E.SUCCEED)},
    "park_signal": every(E.PARK),
    "take_signal": {(S.BLOCKED, E.SUCCEED), (S.WAITING, E.SUCCEED)},
    "default_taken": {(S.WAITING, E.SUCCEED)},
    "delegate": every(E.DELEGATE),
    "call_parked": every(E.BACK_OFF),
    "postpone_calls": every(E.PARK),
    "expand": every(E.EXPAND),
    "reopen_loop": every(E.EXPAND),
    "take": {(S.BLOCKED, E.CLAIM)},
    "settle_step": every(E.SKIP) | every(E.MARK),
    "keep_steps": {(S.BLOCKED, E.SUCCEED), (S.BLOCKED, E.SKIP)},
    "enter_items": {(S.BLOCKED, E.DELEGATE)},
    "open_items": every(E.EXPAND),
    "skip": every(E.SKIP) | every(E.LEAVE_OUT),
    "stop_loop": every(E.SKIP),
    "stop_inside": every(E.SKIP),
    "withdraw": every(E.SKIP),
    "succeed": every(E.SUCCEED),
    "halt": every(E.CANCEL),
    "reset_blocked": every(E.RETRY),
    "reset_children": every(E.RETRY),
    "reset_loop": every(E.RETRY),
    "end_step": every(E.SUCCEED) | every(E.FAIL) | {(S.RUNNING, E.CANCEL)} | every(E.QUEUE_TIMEOUT),
}
"""What each statement does to a step that is there."""
STAYS = {name: {"blocked"} for name in ("finish_mid", "finish_last")}
"""Statuses that a statement may write to a step that has them already."""
MAKERS = {
    **{name: {"blocked", "ready"} for name in ("start", "start_keyed")},
    **{name: {"blocked", "ready", "running"} for name in ("expand", "finish_open")},
    "open_items": {"blocked", "ready"},
    **{name: {"ready"} for name in ("enter_items", "finish_item")},  # or as the plan's rows say: `item_rows`
}
"""What the steps that a statement inserts begin as. RUNNING is what its caller takes at once, with a claim."""


def updated(text: str) -> Iterator[str]:
    """What a statement gives to `status` of steps that are there."""
    for match in re.finditer(r"UPDATE flow_steps\b.*?\bSET (.*?)(?=\b(?:FROM|WHERE)\b)", text, re.DOTALL):
        for assignment in apart(match[1]):
            target, _, value = assignment.partition(" = ")
            if target == "status":
                yield value
            elif target.startswith("(status"):
                yield apart(value[1:])[0]


def apart(text: str) -> list[str]:
    """Split at the commas that stand in no parentheses."""
    depth, parts = 0, [""]
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def literals(values: Iterator[str]) -> set[str]:
    return {found for value in values for found in re.findall(r"'(\w+)'", value)}


def writes(name: str) -> bool:
    return any(True for _ in updated(statements.sql(name)))


def test_every_writer_of_a_step_status_is_listed() -> None:
    """A new one is looked at here before it can move a step."""
    assert {name for name in statements.names() if writes(name)} == set(WRITERS)
    makers = {name for name in statements.names() if "INSERT INTO flow_steps " in statements.sql(name)}
    assert makers == set(MAKERS)


def test_the_writers_make_the_declared_moves_and_no_others() -> None:
    """Each move of the table is made by somebody."""
    assert set().union(*WRITERS.values()) == set(STEP_MOVES)


@pytest.mark.parametrize("name", WRITERS)
def test_a_statement_writes_what_its_moves_lead_to(name: str) -> None:
    """And names the states it leaves, unless it is given them."""
    text = statements.sql(name)
    targets = {str(STEP_MOVES[move]) for move in WRITERS[name]}
    if "status = %(status)s" not in text:
        assert literals(updated(text)) == targets | STAYS.get(name, set())
    if "%(from_states)s" not in text and name != "reopen_loop":  # it counts a loop anew, whatever that is
        assert all(f"'{source}'" in text for source, _ in WRITERS[name])


@pytest.mark.parametrize(("name", "begins"), MAKERS.items())
def test_a_new_step_begins_as_one_that_waits_or_may_go_or_is_taken(name: str, begins: set[str]) -> None:
    inserted = re.search(r"INSERT INTO flow_steps (.*?)\bRETURNING\b", statements.sql(name), re.DOTALL)
    assert inserted is not None
    assert set(re.findall(r"\b(?:THEN|ELSE) '(\w+)'", inserted[1])) == begins


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO flow_step_dispatches ",
        "INSERT INTO flow_step_claims ",
        "INSERT INTO flow_step_attempts ",
        "SET expires_at = NULL",
        "closed = TRUE",
        "'run.' ||",
        "THEN 'ready'",
        "attempts + ",
        "dispatch_no, ready_at, queue_deadline",
    ],
)
def test_what_a_move_consists_of_is_written_once(text: str) -> None:
    """What a feature adds to it, it adds in one place."""
    folder = files(statements.__package__).joinpath("sql")
    found = {file.name: " ".join(file.read_text("utf-8").split()).count(text) for file in folder.iterdir()}
    assert {name: count for name, count in found.items() if count} == {"transitions.sql": 1}


def test_nobody_makes_a_step_ready_by_hand() -> None:
    """`queued` and the status go together, with a dispatch."""
    for name in statements.names():
        for assigned in re.findall(r"\bSET (.*?)(?=\bFROM\b|\bWHERE\b)", statements.sql(name), re.DOTALL):
            assert "status = 'ready'" not in assigned, name
            assert "queued = TRUE" not in assigned, name


def test_only_events_are_left_out() -> None:
    """Where only essential ones are kept, a statement moves the same steps, claims and runs."""
    writes = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) flow_(?!events)\w+")
    changed = []
    for name in statements.names():
        whole, essential = statements.sql(name), statements.sql(name, essential=True)
        assert writes.findall(whole) == writes.findall(essential), name
        assert "[[" not in whole + essential, name
        assert "]]" not in whole + essential, name
        changed += [name] if whole != essential else []
    assert {"claim", "finish_mid", "finish_sink", "finish_child", "take", "ready", "due"} < set(changed)


@pytest.mark.parametrize("name", ["start", "start_keyed", "claim", "finish_mid", "finish_child", "finish_sink"])
def test_the_driver_reads_a_statement_of_the_hot_path_once(name: str) -> None:
    """It keeps the places of the parameters of short texts only; a longer one costs 0.1 ms more each time."""
    assert len(statements.sql(name).encode()) < MAX_CACHED_STATEMENT_LENGTH
