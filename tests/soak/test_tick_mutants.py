"""The checker says nothing of schedules as the engine decides them, and catches each way to decide them wrongly."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from orchestrator.core import ticks as rules
from orchestrator.engine import faults
from orchestrator.engine.runs import start_run
from orchestrator.engine.schedules import operate, tick
from orchestrator.ledger import rows, statements
from orchestrator.ledger import ticks as written
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.tx import Ledger
from tests.proof import recorder
from tests.proof.history import SECOND, History, Limits
from tests.proof.ticks import i13_ticks_and_runs
from tests.support.factories import Lab
from tests.support.schedules import MINUTELY, at, deploy, minutes

_ONE_CLOCK: Final = recorder.Offset(0, 0)
_LIMITS: Final = Limits(liveness_ns=SECOND, slack_ns=20_000_000)


@pytest.fixture
def lab(db_url: str) -> Iterator[Lab]:
    made = Lab(db_url, Ledger.connect(db_url, name="mutant"))
    recorder.install(db_url)
    made.execute("ALTER TABLE proof_history ALTER COLUMN at SET DEFAULT flow_now()")
    try:
        yield made
    finally:
        faults.disarm()
        made.connection.close()
        made.ledger.close()


def _fire(lab: Lab, minute: float) -> None:
    """The ledger's clock moves on, and a keeper looks."""
    at(lab, minutes(minute)[0])
    while tick.fire(lab.ledger, by="watchdog").more:
        pass


def _play(lab: Lab) -> None:
    """Ticks on time, an outage, a pause that comes between the look and the decision, a resume, the end."""

    def pause() -> None:
        faults.disarm()
        operate.pause(lab.ledger, "demo", "all", by="people")

    at(lab, minutes(0)[0])
    deploy(lab, all={**MINUTELY, "missed": "all"}, skip={**MINUTELY, "overlap": "skip"})
    for minute in (1, 2, 3, 6):
        _fire(lab, minute)
    faults.arm("tick.selected", pause)
    _fire(lab, 7)
    at(lab, minutes(10)[0])
    operate.resume(lab.ledger, "demo", "all", by="people")
    for minute in (11, 12):
        _fire(lab, minute)
    at(lab, minutes(12.5)[0])
    for key in ("all", "skip"):
        operate.pause(lab.ledger, "demo", key, by="people")


def _sentences(lab: Lab) -> list[str]:
    history = History(
        changes=tuple(recorder.changes(lab.url, _ONE_CLOCK)),
        final=recorder.final_rows(lab.url, _ONE_CLOCK),
        limits=_LIMITS,
        ended_ns=int(lab.now().timestamp()) * SECOND,
    )
    return [violation.sentence for violation in i13_ticks_and_runs(history)]


# ---- the mutants ----


def _leaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a decision the next time is left out."""
    original = rules.due

    def due(timing: Any, *given: Any, **options: Any) -> Any:
        found = original(timing, *given, **options)
        if found is None or found.cursor is None:
            return found
        leapt = timing.after(found.cursor)
        return replace(found, cursor=leapt, due_at=leapt)

    monkeypatch.setattr(rules, "due", due)


def _never_makes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """`all` is `latest`."""
    original = rules.due

    def due(timing: Any, name: str, cursor: Any, now: datetime, makes_up: rules.MakesUp, **options: Any) -> Any:
        wrong = makes_up._replace(missed="latest") if makes_up.missed == "all" else makes_up
        return original(timing, name, cursor, now, wrong, **options)

    monkeypatch.setattr(rules, "due", due)


def _fires_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause settles nothing, and what was read before the schedule was held is believed."""
    text = statements.sql("hold_undecided")
    wrong = re.sub(r"s\.active.*?(?=FOR)", "TRUE ", text, flags=re.DOTALL)
    assert wrong != text
    monkeypatch.setattr(operate, "stopped", lambda tx, row, by: written.Stored.of(row))
    monkeypatch.setattr(rows, "sql", lambda name: wrong if name == "hold_undecided" else statements.sql(name))


def _makes_up_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor goes on where it stood."""
    monkeypatch.setattr(ScheduleRow, "settled_until", property(lambda row: row.last_tick_at or row.now))


def _starts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is committed before its tick."""
    original = start_run.start_in

    def start_in(ledger: Ledger, tx: Any, requests: Any) -> Any:
        found: list[Any] = []

        def other() -> None:
            found.append(ledger.retry(lambda own: original(ledger, own, requests)))
            ledger.release_thread()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return found[0]

    monkeypatch.setattr(start_run, "start_in", start_in)


def _overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open runs are not seen."""
    monkeypatch.setattr(written, "open_runs", lambda tx, ids: dict.fromkeys(ids, written.NOTHING_OPEN))


def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks are decided five minutes ahead."""
    original = rules.due

    def due(timing: Any, name: str, cursor: Any, now: datetime, *given: Any, **options: Any) -> Any:
        return original(timing, name, cursor, now + timedelta(minutes=5), *given, **options)

    monkeypatch.setattr(rules, "due", due)


MUTANTS: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]]] = {
    "the cursor leaps": (_leaps, "ticks are lost"),
    "nothing is made up for": (_never_makes_up, "is missed, its policy is all"),
    "a pause is not seen": (_fires_in_a_pause, "while it is disabled, paused or deleted"),
    "a pause is made up for": (_makes_up_for_a_pause, "from before it was live"),
    "a run by itself": (_starts_by_itself, "are two commits"),
    "overlaps are not seen": (_overlaps, "its policy is skip"),
    "ticks come early": (_early, "before its time"),
}
"""How each is done, and what the checker says of it."""


def test_the_engine_passes(lab: Lab) -> None:
    """So what a mutant breaks is the mutant's doing."""
    _play(lab)
    assert _sentences(lab) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it breaks."""
    apply, sentence = MUTANTS[name]
    apply(monkeypatch)
    _play(lab)
    found = _sentences(lab)
    assert any(sentence in one for one in found), found
