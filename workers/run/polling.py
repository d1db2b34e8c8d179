"""What a step that polls returned: is it what it waits for?"""

from orchestrator.authoring.polling import NotYet, PollState
from orchestrator.engine.steps import polls
from orchestrator.ledger.polls import Polling
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.outage import retry_through_outage


def judge(attempt: Attempt) -> None:
    """A result that is not the one, or that came too early, is none.

    Raises:
        NotYet: the step is asked again.
        UntilInvalid: nobody can say whether it is the one.
    """
    poll = attempt.poll
    if poll is None:
        return
    attempt.polls = True
    if (why := poll.unmet(attempt.output)) is not None:
        raise NotYet(why)
    if poll.min_attempts > 1 and (number := _so_far(attempt).polls + 1) < poll.min_attempts:
        raise NotYet(f"ready at poll {number} of {poll.min_attempts} at least")


def state(attempt: Attempt) -> PollState | None:
    """What its context says; asked by a handler, from whatever thread it runs in."""
    poll = attempt.poll
    if poll is None:
        return None
    found = _so_far(attempt)
    return PollState(found.polls + 1, found.started, found.started + poll.timeout)


def _so_far(attempt: Attempt) -> Polling:
    return retry_through_outage(attempt.outage(), "read the polls", lambda: polls.state(attempt.ledger, attempt.lease))
