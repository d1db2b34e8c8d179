"""What is logged inside a step carries the run, the flow, the step and the attempt, whoever logs it."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import ContextExecutor
from orchestrator.observe import correlation
from orchestrator.observe.correlation import StepFilter
from orchestrator.observe.logs import about, log
from orchestrator.observe.scope import Scope, inside
from tests.unit.attempts import RUN, leased

KEYS = {"run_id": str(RUN), "flow": "demo", "step_key": "a", "attempt": 1}
library = logging.getLogger("a_library")


class Reads(logging.Handler):
    """Keeps records, as a handler with the filter sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        for _ in range(2):  # several handlers see one record
            self.addFilter(StepFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def keys(self) -> dict[str, Any]:
        """Of the last one."""
        facts = self.records.pop().__dict__
        return {key: facts[key] for key in KEYS if key in facts}


@pytest.fixture
def seen() -> Iterator[Reads]:
    root, handler = logging.getLogger(), Reads()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


def test_a_library_in_a_step_needs_to_know_nothing(seen: Reads) -> None:
    library.warning("before")
    assert seen.keys() == {}
    with inside(Scope(leased()), alone=False):
        library.warning("inside")
        assert seen.keys() == KEYS
        with inside(Scope(leased("b")), alone=False):
            library.warning("a step that runs another")
            assert seen.keys() == KEYS | {"step_key": "b"}
        library.warning("inside again")
        assert seen.keys() == KEYS
    library.warning("after")
    assert seen.keys() == {}


def test_of_attempts_that_overlap_none_is_left_when_they_are_over(seen: Reads) -> None:
    """Where one at a time is played by several threads of a process, the first may end first."""
    first, second = inside(Scope(leased()), alone=True), inside(Scope(leased("b")), alone=True)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for pool, step in ((one, first.__enter__), (other, second.__enter__)):
            pool.submit(step).result()
        for pool, last in ((one, first.__exit__), (other, second.__exit__)):
            pool.submit(last, None, None, None).result()
    library.warning("afterwards")
    assert seen.keys() == {}


def test_coroutines_and_their_threads_know_their_step(seen: Reads) -> None:
    """On a loop of another thread, as a worker has one; steps side by side are not mixed up."""
    loop = asyncio.new_event_loop()
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    found: dict[str, set[str]] = {"a": set(), "b": set()}

    async def say(key: str) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            await asyncio.to_thread(library.warning, key)

    futures = []
    for key in found:
        with inside(Scope(leased(key)), alone=False):
            futures.append(asyncio.run_coroutine_threadsafe(say(key), loop))
    for future in futures:
        future.result(10)
    loop.call_soon_threadsafe(loop.stop)
    serving.join()
    loop.close()
    for record in seen.records:
        found[record.getMessage()].add(record.step_key)  # type: ignore[attr-defined]
    assert found == {"a": {"a"}, "b": {"b"}}
    assert len(seen.records) == 10


@pytest.mark.parametrize("alone", [True, False])
def test_a_bare_thread_is_known_where_one_step_runs_at_a_time(seen: Reads, alone: bool) -> None:
    with inside(Scope(leased()), alone=alone):
        thread = threading.Thread(target=library.warning, args=["from a thread"])
        thread.start()
        thread.join()
    assert seen.keys() == (KEYS if alone else {})


def test_a_thread_that_is_older_than_the_step_is_nobodys(seen: Reads) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(library.warning, "first").result(10)
        with inside(Scope(leased()), alone=True):
            executor.submit(library.warning, "perhaps of an earlier step").result(10)
            assert seen.keys() == {}
            run = contextvars.copy_context().run
            executor.submit(run, library.warning, "certainly of this one").result(10)
            assert seen.keys() == KEYS


def test_our_executor_takes_the_step_along_and_beyond_its_end(seen: Reads) -> None:
    go = threading.Event()

    def late() -> None:
        assert go.wait(10)
        library.warning("late")

    with ContextExecutor(2) as executor:
        with inside(Scope(leased()), alone=False):
            assert list(executor.map(divmod, [7], [2])) == [(3, 1)]
            executor.submit(library.warning, "%s", "now").result(10)
            assert seen.keys() == KEYS
            left = executor.submit(late)
        with inside(Scope(leased("b")), alone=True):
            go.set()
            left.result(10)
            assert seen.keys() == KEYS


def test_a_fact_of_somebody_elses_keeps_its_value_under_another_name(seen: Reads) -> None:
    """Trackers of experiments have runs, too."""
    with inside(Scope(leased()), alone=False):
        library.warning("tracked", extra={"run_id": "exp-1", "attempt": 1})
    record = seen.records[-1]
    assert record.__dict__["fact_run_id"] == "exp-1"
    assert "fact_attempt" not in record.__dict__
    assert seen.keys() == KEYS


def test_a_line_of_ours_says_itself_which_run_it_is_about(seen: Reads) -> None:
    other = leased("b")
    with inside(Scope(leased()), alone=True):
        log.warning("step.stale", extra=about(other, 3002))
        assert seen.keys()["step_key"] == "b"
        log.warning("run.ended", extra={"run_id": "child"})
        assert seen.keys() == {"run_id": "child"}
        log.warning("database.busy")
        assert seen.keys() == KEYS
        thread = threading.Thread(target=log.warning, args=["heartbeat.failing"])
        thread.start()
        thread.join()
        assert seen.keys() == {}, "a thread of ours does nothing for a step"


def test_a_thread_that_inherits_a_step_that_is_over_is_not_its(seen: Reads) -> None:
    with inside(Scope(leased()), alone=False):
        context = contextvars.copy_context()
    context.run(log.warning, "heartbeat.failing")
    assert seen.keys() == {}


@pytest.mark.parametrize("already", [False, True])
def test_secrets_that_the_step_knows_are_taken_out_wherever_they_are(seen: Reads, already: bool) -> None:
    """Also of a traceback that another handler has made a text of before."""
    pin = "canary-'51\"12"
    if already:
        seen.filters.insert(0, lambda record: bool(logging.Formatter().format(record) or True))
    with inside(Scope(leased(), lambda: {pin}), alone=False):
        library.warning("the pin is %s", pin, extra={"quoted": repr(pin), "kept": 5, "deep": {"pin": [pin]}})
        try:
            raise ValueError(f"no such pin: {pin}")
        except ValueError:
            library.exception("it failed")
        if not already:
            library.warning("%d", pin)
        library.warning("%s and %s", "nothing", "here")
    plain = seen.records.pop()
    assert (plain.msg, plain.args) == ("%s and %s", ("nothing", "here"))
    texts = [
        logging.Formatter("%(message)s %(quoted)s %(deep)s", defaults={"quoted": "", "deep": ""}).format(record)
        for record in seen.records
    ]
    assert not [text for text in texts if "canary" in text]
    assert texts[0] == "the pin is *** '***' {'pin': ['***']}"
    assert seen.records[0].__dict__["kept"] == 5
    assert "ValueError: no such pin: ***" in texts[1]


def test_the_ids_of_the_current_span_are_asked_for(seen: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    library.warning("untraced")
    assert "trace_id" not in seen.records[-1].__dict__
    ids: tuple[str, str] | None = ("0af7", "b7ad")
    monkeypatch.setattr(correlation, "span_ids", lambda: ids)
    library.warning("traced", extra={"trace_id": "theirs"})
    facts = seen.records[-1].__dict__
    assert (facts["trace_id"], facts["span_id"], facts["fact_trace_id"]) == ("0af7", "b7ad", "theirs")
    ids = None
    library.warning("between spans")
    assert "trace_id" not in seen.records[-1].__dict__
