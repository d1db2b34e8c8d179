"""A storm of one event is a few lines and a count."""

import io
import logging

from orchestrator.observe.handler import Stderr
from tests.support.forked import in_child


class Played(Stderr):
    """Writes to a text, at times that the test gives."""

    def __init__(self, burst: int) -> None:
        super().__init__(burst)
        self.text = io.StringIO()
        self.setStream(self.text)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def log(self, second: float, event: str, *args: object, name: str = "shop", level: int = logging.WARNING) -> None:
        record = logging.LogRecord(name, level, "", 0, event, args, None)
        record.created = second
        self.handle(record)

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


def test_a_storm_is_its_first_lines_and_a_count() -> None:
    handler = Played(3)
    for number in range(1000):
        handler.log(5.5, "away %s", number)
    handler.log(5.9, "another event")
    assert handler.lines == ["shop away 0", "shop away 1", "shop away 2", "shop another event"]
    handler.setFormatter(
        logging.Formatter(
            "%(levelname)s %(message)s %(of)s %(suppressed)d at %(created).1f", defaults={"of": "-", "suppressed": 0}
        )
    )
    handler.log(6.0, "away %s", 1000)
    assert handler.lines[4:] == ["WARNING log.suppressed away %s 997 at 5.5", "WARNING away 1000 - 0 at 6.0"]


def test_the_same_text_of_another_logger_or_level_is_another_event() -> None:
    handler = Played(1)
    for _ in range(2):
        for name, level in (("a", logging.WARNING), ("b", logging.WARNING), ("a", logging.ERROR)):
            handler.log(1, "full", name=name, level=level)
    assert sorted(handler.lines) == ["a full", "a full", "b full"]


def test_lines_below_warning_are_told_apart_for_each_thing_that_is_done() -> None:
    handler = Played(2)
    for _ in range(100):
        handler.log(1, "step.succeeded", level=logging.INFO)
    assert len(handler.lines) == 20


def test_nothing_is_left_out_without_a_limit() -> None:
    handler = Played(0)
    for _ in range(500):
        handler.log(1, "full")
    assert len(handler.lines) == 500


def test_the_end_tells_what_was_not_told_yet() -> None:
    handler = Played(1)
    for _ in range(5):
        handler.log(1, "full")
    handler.close()
    handler.close()
    assert handler.lines == ["shop full", "shop log.suppressed"]


def test_texts_that_differ_each_time_do_not_fill_the_memory() -> None:
    handler = Played(1)
    for number in range(30_000):
        handler.log(1, f"text {number}")
    assert len(handler._seen) <= 10_001
    assert len(handler.lines) == 30_000


def test_a_child_does_not_tell_what_its_parent_counted() -> None:
    handler = Played(1)
    for _ in range(5):
        handler.log(1, "full")

    def child() -> None:
        handler.log(2, "next")
        assert handler.lines == ["shop full", "shop next"]

    assert in_child(child) == 0
    handler.log(2, "next")
    assert handler.lines == ["shop full", "shop log.suppressed", "shop next"]
