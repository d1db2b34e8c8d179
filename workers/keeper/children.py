"""The pool children of a worker, seen from its main process: which have died, and which to end."""

import contextlib
import os
import queue
import time
from collections.abc import Collection, Iterable
from typing import Any, Final

import psutil

from orchestrator.core.facts import Overrun, Swept
from orchestrator.engine.steps import release
from orchestrator.observe.logs import log
from orchestrator.observe.metrics.table import WORKERS_CHILDREN_LOST
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.shared import digest
from orchestrator.workers.state import WorkerState

_POLL_S: Final = 0.2
_DEATH_S: Final = 1.0
"""A process that was killed runs no more, even if the system takes long to bury it."""
_AS_TOLD: Final = frozenset({0, 155})
"""Exit codes of children that were told to end, or have done what one child may do (billiard's EX_RECYCLE)."""


def _is_dead(pid: int) -> bool:
    """Whether this child of ours ended, waited for or not. It stays to be waited for."""
    try:
        return _how_it_ended(pid) is not None
    except ChildProcessError:
        return True


def _how_it_ended(pid: int) -> os.waitid_result | None:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _exit_code(child: Any) -> int | None:
    """Of a pool child that ended; minus the signal that ended it. None: nobody knows."""
    with contextlib.suppress(ChildProcessError):  # the pool has waited for it
        if (found := _how_it_ended(child.pid)) is not None:
            return int(found.si_status) * (1 if found.si_code == os.CLD_EXITED else -1)
    code: int | None = None if child._popen is None else child._popen.returncode
    return code


def _kill_with_programs(pid: int) -> None:
    """End a child and every process below it: a program that a handler waits for would go on, beside its next attempt.

    The child is stopped first, so that it starts nothing more. A program that was re-parented to init is not found.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(pid)
        child.suspend()
        _kill([child, *child.children(recursive=True)])


def _kill(processes: Iterable[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def kill_programs(*, but: int | None = None) -> None:
    """End what the handlers of this process started: every process below it, but this child and what is below that."""
    for child in psutil.Process().children():
        if child.pid != but:
            _kill_with_programs(child.pid)


class Children:
    """Only for the prefork pool; a thread cannot be ended."""

    def __init__(self, state: WorkerState, worker: Any) -> None:
        self._state = state
        self._worker = worker
        self._processes: dict[int, Any] = {}
        """The pool's own, by their ids."""
        self._known: set[int] = set()
        self._gone: set[int] = set()
        self._buried: set[int] = set()
        self._reported: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._handing_back = False

    def report(self, pid: int) -> None:
        """The pool says that this child is lost; called on the hub."""
        self._reported.put(pid)

    def _listed(self) -> set[int]:
        pool = getattr(self._worker.pool, "_pool", None)
        # The pool lists a child a moment before it is forked: then it has no pid yet.
        if pool is None:
            return self._known
        found = {child.pid: child for child in list(pool._pool) if child.pid}
        self._processes |= found
        return set(found)

    def duty(self) -> Duty:
        """Each worker's own."""
        return Duty("children", Scope.WORKER, _POLL_S if self._state.prefork else 60.0, self.bury)

    def bury(self) -> Swept:
        """End the claims of children that died. Safe to repeat after an error."""
        if not self._state.prefork:
            return Swept()
        listed = self._listed()
        dead = {pid for pid in listed if _is_dead(pid)}
        while not self._reported.empty():
            dead.add(self._reported.get())
        gone = ((self._known - listed) | dead) - self._buried
        self._buried = (self._buried | gone) & (listed | dead)  # a pid may come back, so it is forgotten in time
        self._gone |= gone
        self._known = listed
        if gone:
            self._count(gone)
            self._replace()
        pid = min(self._gone, default=None)
        return Swept() if pid is None else self._end(pid)

    def _count(self, gone: Collection[int]) -> None:
        ended = [self._processes.pop(pid) for pid in gone if pid in self._processes]
        lost = sum(_exit_code(child) not in _AS_TOLD for child in ended)
        if lost and not self._state.stopping:
            self._state.count(WORKERS_CHILDREN_LOST, by=lost)

    def _replace(self) -> None:
        """Let the pool start another child now.

        It watches a pipe that closes a moment before the child can be waited for; when it looks in between, it sees
        a living child and looks again five seconds later.
        """
        hub, maintain = self._worker.hub, getattr(self._worker.pool, "maintain_pool", None)
        if hub is not None and maintain is not None and not self._state.stopping:
            hub.call_soon(maintain)

    def _end(self, pid: int) -> Swept:
        ledger, owner = self._state.runtime().ledger, f"{self._state.worker_id}/{pid}"
        if self._handing_back:
            dispatches = release.hand_back(ledger, owner)
        else:
            settings = self._state.settings
            limits = {"crash_limit": settings.crash_limit, "deploy_limit": settings.deploy_limit}
            dispatches = release.end_owned(ledger, owner, stopping=self._state.stopping, **limits)
        self._gone.discard(pid)
        return Swept(1, dispatches, next_s=0.0 if self._gone else None)

    def end_all(self) -> None:
        """End every child with what it started, and wait for that. What they hold is handed back from now on."""
        self._handing_back = True
        pids = self._listed()
        for pid in pids:
            _kill_with_programs(pid)
        ends = time.monotonic() + _DEATH_S
        while time.monotonic() < ends and not all(_is_dead(pid) for pid in pids):
            time.sleep(0.01)

    def stop(self, overrun: Overrun) -> None:
        """End the handler of a claim that the ledger has ended already."""
        facts = {"run_id": overrun.run_id, "step_key": overrun.step_key, "why": overrun.why}
        pid = self._pid(overrun.owner)
        if pid is None:
            log.error("step.abandoned", extra={**facts, "fix": "a thread cannot be ended: use the prefork pool"})
            return
        # Between the ledger's answer and now the child may have gone on to another step: leave that alone.
        if not self._state.shared.runs(pid, digest(overrun.run_id, overrun.step_key, overrun.fence)):
            return
        log.warning("child.killed", extra={**facts, "child": pid})
        _kill_with_programs(pid)

    def _pid(self, owner: str) -> int | None:
        last = owner.rpartition("/")[2]
        if not self._state.prefork or not last.isdigit():
            return None
        pid = int(last)
        return pid if pid in self._listed() and not _is_dead(pid) else None
