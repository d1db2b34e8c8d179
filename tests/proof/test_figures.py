"""The figures of a report are those of the history."""

from tests.proof.figures import figures, moments, quantile, recoveries
from tests.proof.history import SECOND
from tests.proof.stories import taken_over
from tests.proof.story import OTHER, told


def test_a_kill_in_a_handler_and_what_it_cost() -> None:
    """Five seconds of waiting for the lease, and the next claim."""
    story = taken_over()
    story.do("a", OTHER)
    history = story.end_run().history()
    found = figures(history)
    assert (found["re-executions explained"], found["re-executions unexplained"], found["attempts lost"]) == (1, 0, 1)
    assert moments(history) == {"kill": {"in the handler": 1}}
    (took,) = recoveries(history)["kill"]
    assert 5.0 < took < 6.0


def test_an_unexplained_one_is_counted_as_such() -> None:
    """The figure that must be zero is not always zero."""
    story = taken_over()
    story.faults.clear()
    story.do("a", OTHER)
    assert figures(story.end_run().history())["re-executions unexplained"] == 1


def test_stuck_and_lost_are_counted() -> None:
    """Of a run that did not end, and one that is not there."""
    story = told()
    story.asked("start", run_id="gone")
    story.commit()
    story.set_run(status="running")
    found = figures(story.history())
    assert (found["lost"], found["stuck"]) == (1, 1)


def test_quantiles() -> None:
    """The smallest value that is enough."""
    assert [quantile([3, 1, 2], share) for share in (0.5, 0.99)] == [2, 3]
    assert quantile([], 0.5) == 0
    assert quantile(range(1, 101), 0.99) == 99


def test_the_age_of_a_queue() -> None:
    """From ready to claimed: `a` waited for its acceptance, its message and its claim."""
    found = figures(told().history())
    assert found["queue age p99 s"] * SECOND == 0.3 * SECOND
