"""Whether this process was told to stop. It says so in its readiness first; then it ends what waits and streams."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Request


class Stopping:
    """For the event loop that serves."""

    def __init__(self) -> None:
        self.announced = False
        """Not ready any more: whoever distributes requests shall send no new ones."""
        self._now = asyncio.Event()

    def end(self) -> None:
        """What is open shall end."""
        self.announced = True
        self._now.set()

    @property
    def ending(self) -> bool:
        return self._now.is_set()

    async def wait(self, longest_s: float) -> bool:
        """Return at the end, or after that time; whether it is the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), longest_s)
        return self.ending


async def stopping_of(request: Request) -> Stopping:
    """That of this process."""
    found = request.app.state.stopping
    assert isinstance(found, Stopping)
    return found


TheStopping = Annotated[Stopping, Depends(stopping_of)]
