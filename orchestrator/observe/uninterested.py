"""The observer that others are made of: they say only what they want to hear of."""

from orchestrator.core.happened import (
    Accepted,
    Delivered,
    Dispatched,
    Ended,
    Failed,
    Operated,
    Polled,
    Refused,
    Skipped,
    Slow,
    Split,
    Started,
    Succeeded,
    Ticked,
    Waited,
)


class Uninterested:
    """Hears nothing."""

    def accepted(self, fact: Accepted) -> None: ...

    def started(self, fact: Started) -> None: ...

    def succeeded(self, fact: Succeeded) -> None: ...

    def failed(self, fact: Failed) -> None: ...

    def polled(self, fact: Polled) -> None: ...

    def skipped(self, fact: Skipped) -> None: ...

    def dispatched(self, fact: Dispatched) -> None: ...

    def refused(self, fact: Refused) -> None: ...

    def delivered(self, fact: Delivered) -> None: ...

    def split(self, fact: Split) -> None: ...

    def ended(self, fact: Ended) -> None: ...

    def waited(self, fact: Waited) -> None: ...

    def ticked(self, fact: Ticked) -> None: ...

    def operated(self, fact: Operated) -> None: ...

    def slow(self, fact: Slow) -> None: ...
