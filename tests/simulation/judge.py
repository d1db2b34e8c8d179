"""What is held against a history that is over."""

from typing import Final

from tests.proof import recorder
from tests.proof.checker import check
from tests.proof.executions import status_at
from tests.proof.history import SECOND, History, Limits
from tests.proof.verdict import Violation
from tests.simulation.world import World

_LIMITS: Final = Limits(crash_limit=2, grace_ns=15 * SECOND, slack_ns=SECOND // 1000)
_ONE_CLOCK: Final = recorder.Offset(0, 0)
_QUEUE_TIMEOUT: Final = "no worker claimed it within its queue_timeout"


def history_of(world: World) -> History:
    """As the checker knows it."""
    url, people = world.arena.url, world.people
    return History(
        invocations=tuple(world.invocations.values()),
        calls=tuple(people.calls),
        faults=tuple(world.faults),
        changes=tuple(recorder.changes(url, _ONE_CLOCK)),
        messages=tuple(world.messages),
        final=recorder.final_rows(url, _ONE_CLOCK),
        manifests=recorder.manifests(url),
        effects=recorder.effects(url),
        limits=_LIMITS,
        ended_ns=world.arena.now_ns(),
    )


def violations(history: History) -> list[Violation]:
    """What the checker says, but for two things that it has no word for."""
    return [one for one in check(history).violations if not _meant(history, one)]


def _meant(history: History, one: Violation) -> bool:
    """A step that failed unstarted, by its queue timeout; and a step that was on its way already when an operator
    retried a predecessor of it, whose failure it takes up: it stays on its way."""
    place = (one.run_id, one.step_key)
    changes = history.at("flow_steps", place)
    if one.invariant == "I5":
        return any(change.row.get("reason", "").startswith(_QUEUE_TIMEOUT) for change in changes)
    epochs = [change for change in history.at("flow_runs", (one.run_id, "")) if change.new["epoch"] > 1]
    on_its_way = any(status_at(history, place, change) in ("ready", "waiting") for change in epochs)
    return one.invariant == "I6" and one.sentence.startswith("it begins while") and on_its_way
