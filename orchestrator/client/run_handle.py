"""One run, as a program sees it."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast
from uuid import UUID, uuid4

from pydantic import JsonValue

from orchestrator.authoring.flow import Flow
from orchestrator.client import runtree
from orchestrator.client.access import Access
from orchestrator.client.given import at_least_one, body_of, known, mapping, payload_text, signal_key, user
from orchestrator.client.runtree import RunTree
from orchestrator.client.siblings import Siblings
from orchestrator.client.waits import Timeout, deadline, ended, final, is_old, left_s, moment_s, seconds, seen
from orchestrator.client.walks import RunWalks
from orchestrator.core.durations import parse_duration
from orchestrator.core.facts import Explanation, StartedRun
from orchestrator.core.pictures import Picture, Stand, drawn
from orchestrator.core.rerun import Rerun
from orchestrator.core.settling import Settle
from orchestrator.core.signals import Delivery, Signal
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.core.values import dumps
from orchestrator.engine.runs import delete_run, explain, rerun, shown
from orchestrator.engine.runs.advice import advice
from orchestrator.engine.runs.rerun import Again
from orchestrator.engine.signals import approvals, deliver
from orchestrator.engine.signals.approvals import Approval
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.subflows import stopping
from orchestrator.errors import Conflict
from orchestrator.ledger import logs, reads, timelines
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.reads.rows import AttemptRow, ChildRow, EventRow, RunRow, StepRow
from orchestrator.ledger.timelines import Timeline

R = TypeVar("R")


class RunHandle(RunWalks, Generic[R]):
    """One run. `created` is False when an idempotency key gave a run that had started before."""

    def __init__(
        self,
        client: Access,
        run_id: UUID,
        flow: Flow[..., R] | None = None,
        *,
        started: StartedRun | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.client = client
        self.id = run_id
        self.created = started is not None and started.created
        self.dispatches = started.dispatches if started is not None else ()
        """Its first steps, for whoever sends them."""
        self.accepted_as = started.status if started is not None else None
        """Where it stood then, if nobody has to be asked for that."""
        self.known_since = time.monotonic()
        self.siblings = siblings
        """The runs that were started in the same call, if there are any."""
        self._flow = flow

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def row(self) -> RunRow:
        """Everything the ledger says of the run itself; of the secrets of its input, `***`."""
        return self.client.call(shown.row, self.id)

    def status(self) -> RunStatus:
        """Where the run stands now."""
        return self.client.call(reads.runs.status, self.id)

    def final_status(self) -> RunStatus | None:
        """How it ended; None while it goes on. Cheaper than `status`."""
        return self.client.call(reads.runs.final_status, self.id)

    def wait(self, timeout: Timeout = None) -> RunStatus:
        """Until the run has ended; its final status. `timeout` in seconds, or as `"5m"`. Outages of the database are
        waited out for half a minute.

        Raises:
            WaitTimeout: it has not ended; it goes on.
            DurationInvalid: `timeout` is not a length of time.
        """
        limit_s = seconds(timeout)
        ends = deadline(limit_s)
        if is_old(self):
            if (status := seen(self)) is not None:
                return status
            time.sleep(moment_s(self, ends))
            if (status := seen(self)) is not None:
                return status
        end = self.end()
        try:
            return end.result(left_s(ends))
        except TimeoutError:
            return self.final(self.status(), limit_s)
        finally:
            end.cancel()

    def end(self) -> "Future[RunStatus]":
        """Its final status, once it has ended. Cancel it to wait no more."""
        (end,) = self.client.watcher.ended([self.id], known_since=self.known_since)
        return end

    def result(self, timeout: Timeout = None) -> R:
        """What the flow returned, once the run has ended; typed when the handle knows the flow.

        Raises:
            RunFailed, RunTimedOut, RunCancelled: it ended otherwise.
            WaitTimeout: it has not ended within `timeout`.
            OutputInvalid: the output does not fit the flow's annotation.
        """
        return self.outcome(self.wait(timeout))

    def outcome(self, status: RunStatus) -> R:
        """The result of a run that has ended with `status`, or the error that says how it ended."""
        if status is not RunStatus.SUCCEEDED:
            row = self.row()
            raise ended(row, self.client.call(advice, row).sentence)
        value = self.client.call(reads.runs.result, self.id)
        return (
            cast(R, value) if self._flow is None else self._flow.decode_output(value, self.client.ledger.secret_names)
        )

    def final(self, status: RunStatus, timeout: float | None) -> RunStatus:
        """`status`, if it is a final one; else the error of a wait that is over."""
        return final(self.id, status, timeout)

    def steps(
        self,
        *,
        loop: str | None = None,
        status: StepStatus | str | None = None,
        after: str | None = None,
        limit: int = reads.steps.PAGE,
        fold: int = reads.steps.FOLD,
    ) -> list[StepRow]:
        """A page of its steps, in the manifest's order: loops with the counts of their children, followed by these if
        they are at most `fold`. With `loop`, a page of that loop's children. `after` is the key of the last row before
        (of the last step outside of loops).

        Raises:
            StepNotFound: it has no such loop, or no step `after`.
        """
        wanted = None if status is None else known(StepStatus, status)
        call, most = self.client.call, at_least_one(limit)
        if loop is not None:
            return call(reads.steps.children, self.id, loop, status=wanted, after=after, limit=most)
        return call(reads.steps.page, self.id, status=wanted, after=after, limit=most, fold=fold)

    def _below(self, loop: str, after: str | None) -> list[StepRow]:
        return self.client.call(reads.steps.below, self.id, loop, after=after)

    def step(self, key: str) -> StepRow:
        """One step, or one child of a loop.

        Raises:
            StepNotFound: it has no such step.
        """
        return self.client.call(reads.steps.get, self.id, key)

    def attempts(self, step: str, *, before: int | None = None, limit: int = 50) -> list[AttemptRow]:
        """The last attempts of a step, or the last ones before attempt `before`: the oldest first. Each has its owner,
        its times, its error with the traceback, and its inputs up to 64 KiB.

        Raises:
            StepNotFound: it has no such step.
        """
        return self.client.call(shown.attempts, self.id, step, before, at_least_one(limit))

    def output(self, step: str) -> JsonValue:
        """What a step returned, as JSON: the value, with its secrets. It is for programs, as `result` is.

        Raises:
            StepNotFound: there is no such step, or it has not succeeded.
        """
        return self.client.call(reads.steps.output, self.id, step)

    def shown_result(self) -> JsonValue:
        """What the run returned, as people see it: its secrets are `***`.

        Raises:
            Conflict: it has not ended.
            RunFailed, RunTimedOut, RunCancelled: it ended otherwise.
        """
        self.must_have_succeeded()
        return self.client.call(shown.result, self.id)

    def must_have_succeeded(self) -> None:
        """
        Raises:
            Conflict: it has not ended.
            RunFailed, RunTimedOut, RunCancelled: it ended otherwise.
        """
        status = self.status()
        if status not in FINAL_RUN:
            raise Conflict(
                f"Run {self.id} is {status} and has no result yet. Fix: wait for its end (`--wait`).",
                run_id=str(self.id),
            )
        if status is not RunStatus.SUCCEEDED:
            self.outcome(status)

    def shown_output(self, step: str) -> JsonValue:
        """As `output`, for people: its secrets are `***`."""
        return self.client.call(shown.output, self.id, step)

    def tree(self) -> RunTree:
        """The run with the runs that its steps called, and theirs."""
        return runtree.read(self)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """A page of its history, in order, from the event after `after`."""
        return self.client.call(reads.events.of_run, self.id, after, at_least_one(limit))

    def logs(self, step: str | None = None, *, after: Place = BEGIN, limit: int = 100) -> list[LogLine]:
        """What its handlers, or those of one step, logged and printed: the lines of a page of batches, by step, attempt
        and number, from the batch after `after`, which is the `place` of the last line of the page before. A worker
        writes them within a second or so; of each attempt the first megabyte and the last one are kept."""
        return self.client.call(logs.read, self.id, step, after=after, limit=at_least_one(limit))

    def timeline(self) -> Timeline:
        """When its steps ran, in columns: for ten thousand of them, too."""
        return self.client.call(timelines.of_run, self.id)

    def log_places(self, step: str | None = None) -> list[Place]:
        """The places of all batches that there are, in the order in which they were written: for whoever follows."""
        return self.client.call(logs.places, self.id, step)

    def children(self, step: str | None = None, *, after: UUID | None = None, limit: int = 50) -> list[ChildRow]:
        """A page of the runs that it called, or that one step of it called, in the order of their starts, from the one
        after the run `after`. Those that nobody waits for are among them."""
        return self.client.call(reads.children.page, self.id, step, after, at_least_one(limit))

    def explain(self, step: str | None = None) -> Explanation:
        """What the run, or one step of it, waits for, and the command that helps."""
        return self.client.call(explain.explain, self.id, step, self.client.settings.worker_ttl)

    def graph(self, language: str = "tree") -> str:
        """The run as a drawing, each step with where it stands: as text (`tree`), `mermaid` or `dot`.

        Raises:
            UsageError: there is no such language.
        """
        row, plan = self.row(), self.client.call(reads.runs.plan_of, self.id)
        stands = {step.key: _stand(step) for step in self.steps(limit=max(len(plan.nodes), 1), fold=0)}
        title = f"{row.flow}@{row.version}, run {row.id}: {row.status}"
        return drawn(Picture.of(plan.manifest, title, stands), language)

    def cancel(self, reason: str = "", *, by: str | None = None) -> RunStatus:
        """Ask it to stop, with the runs that its steps wait for; nothing new starts from now on. Asking again changes
        nothing.

        Raises:
            Conflict: it ended otherwise.
        """
        who, grace = by or user(), self.client.settings.cancel_grace
        return self.client.call(stopping.cancel, self.id, by=who, reason=reason or "no reason given", grace=grace)

    def delete(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Remove it for good, with its inputs, outputs, history and idempotency key. The audit keeps that, and why.

        Raises:
            Conflict: it has not ended.
        """
        self.client.call_once(delete_run.delete, self.id, by=by or user(), reason=reason)

    def signal(
        self,
        name: str,
        payload: object = None,
        *,
        key: object = "",
        id: str | None = None,
        by: str | None = None,
        ttl: Timeout = None,
    ) -> Delivery:
        """Send a signal: a step that waits for it takes it at once, or it is kept for one that will, until the run ends
        or for `ttl`. What was sent with an `id` may be sent again: it is delivered once.

        Raises:
            SignalNotFound: no step of the run waits for that name.
            SignalInvalid: the payload does not fit; nothing was stored.
            SignalTaken: another one came first, and nothing waits for one more.
            SignalTooLate: the run has ended or is being stopped, or whatever waited is over.
            SignalIdUsed: the id was used for another payload or key.
            SignalsFull, SignalTooLarge: the run keeps 1,000 already; the payload has more than 256 KiB.
        """
        length = None if ttl is None else parse_duration(ttl)
        return self._deliver(Signal(name, payload_text(payload), signal_key(key), id, by or user(), length))

    def answer(self, step: str, answer: object, *, id: str | None = None, by: str | None = None) -> Delivery:
        """Answer what an approval asks; `by` is kept as who did. Somebody else may be first.

        Raises:
            ApprovalNotFound, ApprovalNotOpen: the run asks nobody there, or not yet.
            SignalInvalid: the answer does not fit the form.
            SignalTaken: it was answered already; `by` says by whom.
            SignalTooLate: the run has ended, or the time to answer is over.
        """
        return self._deliver(Signal(step, payload_text(answer), id=id, by=by or user(), answers=True))

    def approval(self, step: str) -> Approval:
        """What a step asks, or asked, and who answered.

        Raises:
            ApprovalNotFound: it has asked nobody.
        """
        return self.client.call(approvals.get, self.id, step)

    def _deliver(self, signal: Signal) -> Delivery:
        """It has an id in any case, so that a lost answer may be asked for again."""
        outcome = self.client.call(deliver.deliver, self.id, signal.id or uuid4().hex, signal)
        self.client.publish(outcome.dispatches)
        return outcome.delivery()

    def retry(
        self, step: str | None = None, *, by: str | None = None, force: bool = False, fresh: bool = False
    ) -> None:
        """Run a failed step again, or all of them, with what was skipped because of them. A step that called a flow
        goes on with the run that it called, which is retried with it; `fresh`, it starts a new one.

        Raises:
            StepNotFound: it has no such step.
            Conflict: nothing failed that could run again; or, without `force`, a step that is there for the failure (a
                refund) has succeeded, which a retry does not take back.
        """
        who = by or user()
        done = self.client.call_once(retry_step.retry, self.id, step, by=who, force=force, fresh=fresh)
        self.client.publish(done)

    def skip(self, step: str, reason: str, *, by: str | None = None) -> None:
        """Leave out a step that nobody has: one that is ready or waits, or one that failed; then the run is opened
        again, as by a retry. What asks for its success is skipped, too.

        Raises:
            StepNotFound: it has no such step.
            Conflict: a worker has the step, it is over otherwise, or the run is being stopped.
        """
        self._settle(Settle(self.id, step, by or user(), reason))

    def mark(self, step: str, output: object, reason: str, *, by: str | None = None) -> None:
        """As `skip`, but the step has succeeded, with this output: somebody did by hand what it is there for. If the
        handle knows the flow, the output is checked as one that the step's function had returned.

        Raises: as `skip`; and OutputInvalid: that is not what the step returns.
        """
        self._settle(Settle(self.id, step, by or user(), reason, self._output_text(step, output)))

    def _settle(self, asked: Settle) -> None:
        self.client.publish(self.client.call_once(settle_step.settle, asked))

    def _output_text(self, step: str, output: object) -> str:
        handlers = {} if self._flow is None else self._flow.handlers
        handler = handlers.get(self.step(step).type or "")
        return dumps(output) if handler is None else handler.encode_output(output)

    def rerun(
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> "RunHandle[R]":
        """A new run, with the input of this one or another, and `changes` over that. Whole, it runs on the flow's
        current version. From a step on, it runs on this run's version, and takes over what is neither that step nor
        after it, with the outputs: nothing of that runs again. Idempotency keys of steps are new ones.

        Raises:
            StepNotFound: this run has no such step.
            UsageError: the step is inside a loop.
            Conflict: this run has not ended, and something of it is to be kept.
            FlowNotFound, FlowDisabled, InputInvalid: as for any start.
            Unavailable: the database cannot be reached. If it was reached, the new run is among the `reruns`.
        """
        started = self.client.call_once(rerun.start, self._again(from_step, input, changes), by=by or user())
        self.client.publish(started.dispatches)
        return RunHandle(self.client, started.run_id, self._flow, started=started)

    def rerun_plan(
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Rerun:
        """What `rerun` would keep, and what it would run. Nothing is written.

        Raises: as `rerun`.
        """
        return self.client.call(rerun.foresee, self._again(from_step, input, changes))

    def reruns(self) -> list[UUID]:
        """The last twenty runs that were made of this one, the newest first."""
        return self.client.call(reads.runs.reruns, self.id)

    def _again(
        self, from_step: str | None, input: Mapping[str, Any] | None, changes: Mapping[str, Any] | None
    ) -> Again:
        if changes is not None:
            before = self.client.call(reads.runs.get, self.id).body if input is None else input  # with its secrets
            input = {**mapping(before or {}), **changes}
        body = None if input is None else body_of(self._flow, input, self.client.ledger.secret_names)
        return Again(self.id, from_step, body)


def _stand(step: StepRow) -> Stand:
    """Of a loop with the counts of its items."""
    counts = step.children or {}
    note = ", ".join(f"{counts[status]} {status}" for status in StepStatus if counts.get(status))
    return Stand(step.status, note)
