"""What others wrote stands on one line of the log, and moves no cursor of a terminal."""

import logging

import pytest

from orchestrator.observe.formats import LineFormatter


@pytest.mark.parametrize(
    "path", ["/a\nb", "/a\rb", "/a\x1b[2J", "/a\u2028b", "/a\x85b", "/a\x00b", "/a\u202eb", "/a\ud800b", "a=b", ""]
)
def test_a_fact_cannot_write_a_line_or_a_fact_of_its_own(path: str) -> None:
    record = logging.LogRecord("orchestrator.worker", logging.INFO, "", 0, "api.request", (), None)
    record.__dict__["path"] = path
    line = LineFormatter("%(message)s").format(record)
    assert line.isprintable()
    assert line == f"api.request path={path!r}"


def test_what_a_server_says_once_more_in_colour_is_left_out() -> None:
    record = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "Started", (), None)
    record.__dict__["color_message"] = "\x1b[36mStarted"
    assert LineFormatter("%(message)s").format(record) == "Started"
