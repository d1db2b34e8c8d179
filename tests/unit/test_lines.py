"""What is kept of what a handler logs and prints, before it is written."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from orchestrator.authoring.context import StepLog
from orchestrator.core.facts import Lease
from orchestrator.observe.scope import Scope, inside
from orchestrator.workers.run import capture, lines
from orchestrator.workers.run.lines import Lines

RUN = UUID(int=7)


def made(changed: Any = lambda lines: None, key: str = "a") -> Lines:
    now = datetime.now(UTC)
    lease = Lease(RUN, key, "demo", "work", "demo.work", 1, 1, "w", "x", "default", 5, now, None, transactional=False)
    return Lines(lease, lambda text: text, changed)


@contextmanager
def running(lines: Lines, *, alone: bool = False) -> Iterator[None]:
    """As a worker runs a handler whose lines these are."""
    scope = Scope(lines.lease)
    with inside(scope, alone=alone), capture.capturing(scope, lines):
        yield


def taken(lines: Lines) -> list[tuple[int, str, str]]:
    return [(line.number, line.level, line.text) for batch in lines.take() for line in batch.lines]


def test_lines_are_numbered_over_all_takes_and_the_first_of_each_is_told() -> None:
    told: list[Lines] = []
    kept = made(told.append)
    kept.add("INFO", "one\ntwo")
    assert taken(kept) == [(1, "INFO", "one"), (2, "INFO", "two")]
    assert taken(kept) == []
    kept.add("INFO", "")
    assert taken(kept) == [(3, "INFO", "")]
    assert told == [kept, kept]


def test_the_rest_of_a_printed_line_is_waited_for_until_the_end() -> None:
    kept = made()
    for part in ("a", "b\nc", "\n", "d"):
        kept.write(part)
    assert taken(kept) == [(1, "PRINT", "ab"), (2, "PRINT", "c")]
    kept.close()
    assert taken(kept) == [(3, "PRINT", "d")]


def test_the_beginning_and_the_end_are_kept_and_a_gap_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "HEAD_BYTES", 500)
    monkeypatch.setattr(lines, "TAIL_BYTES", 500)
    kept = made()
    for number in range(1000):
        kept.add("INFO", f"line {number}")
    head, tail = kept.take()
    assert (head.tail, tail.tail) == (False, True)
    assert head.lines[0].number == 1
    assert tail.lines[-1].number == 1000
    assert head.lines[-1].number + 1 < tail.first
    assert tail.size <= 500
    assert head.size <= 500 + head.lines[-1].size
    assert len(kept.take()) == 0


def test_a_long_line_is_cut() -> None:
    kept = made()
    kept.write("x" * (3 * lines.LINE))
    kept.close()
    assert [len(text) for _, _, text in taken(kept)] == [lines.LINE]


def test_what_is_logged_and_printed_in_a_handler_is_caught_and_passed_on(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    kept, other = made(), made(key="b")
    caplog.set_level(logging.INFO)
    ours = StepLog(
        logging.getLogger("orchestrator.step"), {"run_id": str(RUN), "flow": "demo", "step_key": "a", "attempt": 1}
    )
    print("before")
    with running(kept):
        print("printed", file=sys.stderr)
        logging.getLogger("shop").info("total %d", 5)
        logging.getLogger("orchestrator.worker").info("our own")
        thread = threading.Thread(target=lambda: ours.info("from a thread"))
        thread.start()
        thread.join()
        with running(other):
            print("inner")
        print("behind")
    print("after")
    found = [(level, text) for _, level, text in taken(kept)]
    assert found == [("PRINT", "printed"), ("INFO", "total 5"), ("INFO", "from a thread"), ("PRINT", "behind")]
    assert taken(other) == [(1, "PRINT", "inner")]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("before\ninner\nbehind\nafter\n", "printed\n")
    assert [record.getMessage() for record in caplog.records] == ["total 5", "our own", "from a thread"]


def test_a_thread_of_the_only_handler_is_caught_and_one_that_was_there_before_is_not() -> None:
    """A pool of threads that outlives steps may do the work of one that is over."""
    kept, go, told = made(), threading.Event(), threading.Event()

    def older() -> None:
        assert go.wait(10)
        print("older")
        logging.getLogger("shop").warning("older")
        told.set()

    before = threading.Thread(target=older)
    before.start()
    with running(kept, alone=True):
        go.set()
        assert told.wait(10)
        for say in (print, logging.getLogger("shop").warning):
            thread = threading.Thread(target=say, args=["younger"])
            thread.start()
            thread.join()
    before.join()
    assert taken(kept) == [(1, "PRINT", "younger"), (2, "WARNING", "younger")]


def test_a_line_that_cannot_be_formatted_does_not_fail_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    kept = made()
    with running(kept):
        logging.getLogger("shop").warning("%d", "no number")
        logging.getLogger("shop").warning(cast(str, Unspeakable()))
    assert taken(kept) == []


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")
