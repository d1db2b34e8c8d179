"""Let calls collide."""

import threading
from collections.abc import Callable
from typing import Any


def race(*calls: Callable[[], Any], at_end: Callable[[], Any] = lambda: None) -> list[Any]:
    """Run `calls` at the same time, each in its own thread; their results or exceptions, in order.

    `at_end` runs last in each thread.
    """
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def work(place: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[place] = call()
        except BaseException as exc:
            results[place] = exc
        finally:
            at_end()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        raised = [one for one in results if isinstance(one, BaseException)]
        assert not thread.is_alive(), f"a call did not come back; others raised {raised}"
    return results


class Later:
    """A call in its own thread, for a caller that wants to see it wait."""

    def __init__(self, call: Callable[[], Any], at_end: Callable[[], Any] = lambda: None) -> None:
        self._at_end = at_end
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(call,), daemon=True)
        self._thread.start()

    def _work(self, call: Callable[[], Any]) -> None:
        try:
            self._result = call()
        except BaseException as exc:
            self._error = exc
        finally:
            self._at_end()

    def result(self) -> Any:
        """What the call gave; its exception is raised here."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "the call did not come back"
        if self._error is not None:
            raise self._error
        return self._result
