"""The pool children of a worker, seen from its main process: who died, and whom to end."""

import os
import signal
from typing import Any

from orchestrator.core.facts import Overrun
from orchestrator.engine import release
from workers.logs import log
from workers.shared import digest
from workers.site import Site


class Children:
    """Only for the prefork pool; a thread cannot be ended."""

    def __init__(self, site: Site, worker: Any) -> None:
        self._site = site
        self._worker = worker
        self._known: set[int] = set()
        self._gone: set[int] = set()

    def _alive(self) -> set[int]:
        pool = getattr(self._worker.pool, "_pool", None)
        return {child.pid for child in list(pool._pool)} if pool is not None else self._known

    def bury(self) -> float:
        """End the claims of children that died, and publish what follows. Safe to repeat after an error."""
        if not self._site.prefork:
            return 60.0
        alive = self._alive()
        self._gone |= self._known - alive
        self._known = alive
        for pid in sorted(self._gone):
            self._end(pid)
        return 1.0

    def _end(self, pid: int) -> None:
        runtime = self._site.runtime()
        dispatches = release.end_owned(
            runtime.ledger, f"{self._site.worker_id}/{pid}", crash_limit=self._site.settings.crash_limit
        )
        self._gone.discard(pid)
        runtime.publisher.publish(dispatches)

    def stop(self, overrun: Overrun) -> None:
        """End the handler of a claim that the ledger has ended already."""
        facts = {"run_id": overrun.run_id, "step_key": overrun.step_key, "why": overrun.why}
        pid = self._pid(overrun.owner)
        if pid is None:
            log.error("step.abandoned", extra={**facts, "fix": "a thread cannot be ended: use the prefork pool"})
            return
        # Between the ledger's answer and now the child may have gone on to another step: leave that alone.
        if not self._site.shared.runs(pid, digest(overrun.run_id, overrun.step_key, overrun.version)):
            return
        log.warning("child.killed", extra={**facts, "child": pid})
        os.kill(pid, signal.SIGKILL)

    def _pid(self, owner: str) -> int | None:
        last = owner.rpartition("/")[2]
        if not self._site.prefork or not last.isdigit():
            return None
        pid = int(last)
        return pid if pid in self._alive() else None
