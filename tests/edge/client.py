"""What all who come by HTTP have in common: a thread, a seed, and an end."""

import random
import threading
from collections.abc import Sequence

from tests.edge.caller import Caller
from tests.edge.journal import Journal


class EdgeClient(threading.Thread):
    """Acts again and again, until it is told to stop; what went wrong in it is raised then."""

    def __init__(self, doors: Sequence[str], journal: Journal, name: str, pause_s: float) -> None:
        """`pause_s`: between two acts, on the average."""
        super().__init__(name=name, daemon=True)
        self.rng = random.Random(name)
        self.caller = Caller(doors, journal, self.rng)
        self._pause_s = pause_s
        self._over = threading.Event()
        self._error: BaseException | None = None

    def act(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """What is left to do when no new acts are wanted."""

    def run(self) -> None:
        try:
            while not self._over.wait(self.rng.uniform(0, 2 * self._pause_s)):
                self.act()
            self.finish()
        except BaseException as exc:  # raised where it is waited for
            self._error = exc
        finally:
            self.caller.close()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def rest(self, seconds: float) -> None:
        """Unless it is over."""
        self._over.wait(seconds)

    def call_off(self) -> None:
        """No new acts."""
        self._over.set()

    def stop(self) -> None:
        """Wait until it has finished."""
        self._over.set()
        self.join(120)
        if self._error is not None:
            raise self._error
        assert not self.is_alive(), f"{self.name} does not come to its end"
