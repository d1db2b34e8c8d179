"""Two clocks become one, and a log's lines become invocations."""

from pathlib import Path

from tests.proof.recorder import Offset, read_log, write_line


def test_a_drift_is_spread_over_the_time() -> None:
    """A wall clock that gained ten by the end had gained five at half time."""
    offset = Offset(wall_ns=1000, offset_ns=-1000, later_ns=100, drift_ns=-10)
    assert [offset.monotonic_ns(wall) for wall in (1000, 1050, 1100)] == [0, 45, 90]


def test_without_a_second_reading_there_is_none() -> None:
    """As in short experiments."""
    assert Offset(wall_ns=1000, offset_ns=-900).monotonic_ns(2000) == 1100


def test_lines_of_one_token_are_one_invocation(tmp_path: Path) -> None:
    """A start without an end is one that was torn away."""
    log = tmp_path / "effects.log"
    facts = {"run": "r", "attempt": 1, "key": "k", "seen": ["x"]}
    write_line(str(log), kind="message", run="r", step="a", number=1)
    write_line(str(log), kind="start", token="1", step="a", **facts)
    write_line(str(log), kind="start", token="2", step="l.3.do", **facts)
    write_line(str(log), kind="error", token="1")
    (first, second), (message,) = read_log(log)
    assert (first.outcome, first.loop_index, first.seen) == ("error", None, ("x",))
    assert (second.outcome, second.ended_ns, second.loop_index) == (None, None, 3)
    assert (message.step_key, message.number) == ("a", 1)
    assert message.at_ns <= first.started_ns <= (first.ended_ns or 0)


def test_no_log_is_no_invocation(tmp_path: Path) -> None:
    """Nothing ran."""
    assert read_log(tmp_path / "none") == ([], [])
