"""The exception by which a step says when it wants to be tried again."""

from datetime import timedelta

from orchestrator.core.durations import DurationLike, format_duration, parse_duration


class RetryAfter(Exception):
    """Raised by a step: this attempt failed, and the next one may begin after `delay`, instead of after the back-off.

    It is an attempt like any other that fails: it uses one of the step's `retries`, and without any left the step
    fails. A delay below zero, as a time that has passed gives, means at once.
    """

    __module__ = "orchestrator"  # the name by which people import it, also in lists and logs

    def __init__(self, delay: DurationLike, message: str = "") -> None:
        """
        Raises:
            DurationInvalid: `delay` is not a length of time.
        """
        super().__init__(delay, message)
        self.delay = timedelta(0) if _is_past(delay) else parse_duration(delay)
        self.message = message

    def __str__(self) -> str:
        return self.message or f"the step asked to be tried again after {format_duration(self.delay)}"


def _is_past(delay: DurationLike) -> bool:
    return delay < timedelta(0) if isinstance(delay, timedelta) else isinstance(delay, int | float) and delay < 0
