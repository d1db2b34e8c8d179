"""One run over HTTP."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

from pydantic import JsonValue

from orchestrator.authoring.flow import Flow
from orchestrator.client.given import at_least_one, body_of, known, payload_text, signal_key
from orchestrator.client.remote.transport import LONGEST_WAIT_S, part
from orchestrator.client.run_handle import ended
from orchestrator.client.runtree import RunTree
from orchestrator.client.waits import Timeout, seconds
from orchestrator.core.durations import format_duration, parse_duration
from orchestrator.core.facts import Explanation
from orchestrator.core.rerun import Rerun
from orchestrator.core.signals import Delivery
from orchestrator.core.states import FINAL_RUN, RunStatus, StepKind, StepStatus
from orchestrator.core.values import loads
from orchestrator.engine.signals.approvals import Approval
from orchestrator.errors import WaitTimeout
from orchestrator.ledger.logs import LogLine
from orchestrator.ledger.reads.rows import AttemptRow, ChildRow, EventRow, RunRow, StepRow
from orchestrator.ledger.reads.steps import FOLD, PAGE
from orchestrator.ledger.timelines import Timeline

if TYPE_CHECKING:
    from orchestrator.client.remote.client import HttpClient

R = TypeVar("R")


class HttpRunHandle(Generic[R]):
    """As `RunHandle`. Whoever has the API key is the author of what is done. Secrets in values are `***`."""

    def __init__(
        self, client: "HttpClient", run_id: UUID, flow: Flow[..., R] | None = None, *, created: bool = False
    ) -> None:
        self.client = client
        self.id = run_id
        self.created = created
        self._flow = flow
        self._path = f"/runs/{run_id}"

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def row(self) -> RunRow:
        """Everything the ledger says of the run itself."""
        return self.client.get(RunRow, self._path)

    def status(self) -> RunStatus:
        """Where the run stands now."""
        return self.row().status

    def wait(self, timeout: Timeout = None) -> RunStatus:
        """As `RunHandle.wait`."""
        limit_s = seconds(timeout)
        ends = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = LONGEST_WAIT_S if ends is None else min(max(ends - time.monotonic(), 0.0), LONGEST_WAIT_S)
            query = {"wait": f"{left_s:.3f}s"} if left_s else {}
            status = self.client.get(RunRow, self._path, query, wait_s=left_s).status
            if status in FINAL_RUN:
                return status
            if ends is not None and time.monotonic() >= ends:
                raise WaitTimeout(
                    f"Run {self.id} is still {status} after {limit_s:g} s; it goes on. "
                    f"Fix: `orchestrator run explain {self.id}` says what it waits for.",
                    run_id=str(self.id),
                )

    def result(self, timeout: Timeout = None) -> R:
        """As `RunHandle.result`."""
        return self.outcome(self.wait(timeout))

    def outcome(self, status: RunStatus) -> R:
        """The result of a run that has ended with `status`, or the error that says how it ended."""
        if status is not RunStatus.SUCCEEDED:
            raise ended(self.row(), self.explain().sentence)
        value = self.shown_result()
        return cast(R, value) if self._flow is None else self._flow.decode_output(value)

    def shown_result(self) -> JsonValue:
        """As `RunHandle.shown_result`."""
        return self.client.value(f"{self._path}/output")

    def steps(
        self,
        *,
        loop: str | None = None,
        status: StepStatus | str | None = None,
        after: str | None = None,
        limit: int = PAGE,
        fold: int = FOLD,
    ) -> list[StepRow]:
        """As `RunHandle.steps`."""
        wanted = None if status is None else known(StepStatus, status).value
        query = {"loop": loop, "status": wanted, "fold": fold, "after": after}
        return self.client.listed(StepRow, f"{self._path}/steps", query, at_least_one(limit))

    def all_steps(self) -> Iterator[StepRow]:
        """As `RunHandle.all_steps`."""
        return self._all(None)

    def _all(self, loop: str | None) -> Iterator[StepRow]:
        after = None
        while page := self.steps(loop=loop, after=after, fold=0):
            for step in page:
                yield step
                if step.kind is StepKind.LOOP and step.children_total:
                    yield from self._all(step.key)
            after = page[-1].key

    def step(self, key: str) -> StepRow:
        """As `RunHandle.step`."""
        found: Mapping[str, Any] = self.client.get(dict[str, Any], f"{self._path}/steps/{part(key)}", {"attempts": 0})
        return self.client.made(StepRow, found["step"])

    def attempts(self, step: str, *, before: int | None = None, limit: int = 50) -> list[AttemptRow]:
        """As `RunHandle.attempts`."""
        query = {"before": before, "attempts": at_least_one(limit)}
        found: Mapping[str, Any] = self.client.get(dict[str, Any], f"{self._path}/steps/{part(step)}", query)
        return self.client.made(list[AttemptRow], found["attempts"])

    def shown_output(self, step: str) -> JsonValue:
        """As `RunHandle.shown_output`."""
        return self.client.value(f"{self._path}/steps/{part(step)}/output")

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `RunHandle.events`."""
        return self.client.listed(EventRow, f"{self._path}/events", {"after": after}, at_least_one(limit))

    def all_events(self, *, after: int = 0) -> Iterator[EventRow]:
        """As `RunHandle.all_events`."""
        while page := self.events(after=after):
            yield from page
            after = page[-1].id

    def logs(self, step: str | None = None, *, limit: int = 1000) -> list[LogLine]:
        """What its handlers, or those of one step, logged and printed, from the beginning: whole batches of lines, of
        which the last one may go beyond the limit."""
        return self.client.listed(LogLine, f"{self._path}/logs", {"step": step}, at_least_one(limit))

    def timeline(self) -> Timeline:
        """As `RunHandle.timeline`."""
        return self.client.get(Timeline, f"{self._path}/timeline")

    def reruns(self) -> list[UUID]:
        """As `RunHandle.reruns`."""
        return self.client.listed(UUID, f"{self._path}/reruns", {}, None)

    def children(self, step: str | None = None, *, after: UUID | None = None, limit: int = 50) -> list[ChildRow]:
        """As `RunHandle.children`."""
        query = {"step": step, "after": after}
        return self.client.listed(ChildRow, f"{self._path}/children", query, at_least_one(limit))

    def tree(self) -> RunTree:
        """As `RunHandle.tree`."""
        return self.client.get(RunTree, f"{self._path}/tree")

    def explain(self, step: str | None = None) -> Explanation:
        """As `RunHandle.explain`."""
        return self.client.get(Explanation, f"{self._path}/explain", {"step": step})

    def graph(self, language: str = "tree") -> str:
        """As `RunHandle.graph`."""
        return self.client.transport.text(f"{self._path}/graph", {"language": language})

    def cancel(self, reason: str = "") -> RunStatus:
        """As `RunHandle.cancel`."""
        return self._do("cancel", {"reason": reason or None})

    def retry(self, step: str | None = None, *, force: bool = False, fresh: bool = False) -> None:
        """As `RunHandle.retry`."""
        self._do("retry" if step is None else f"steps/{part(step)}/retry", {"force": force, "fresh": fresh})

    def skip(self, step: str, reason: str) -> None:
        """As `RunHandle.skip`."""
        self._do(f"steps/{part(step)}/skip", {"reason": reason})

    def mark(self, step: str, output: object, reason: str) -> None:
        """As `RunHandle.mark`."""
        self._do(f"steps/{part(step)}/mark", {"output": self._output(step, output), "reason": reason})

    def rerun(self, from_step: str | None = None, *, input: Mapping[str, Any] | None = None) -> "HttpRunHandle[R]":
        """As `RunHandle.rerun`."""
        again = self._again(from_step, input)
        done: Mapping[str, Any] = self.client.send(dict[str, Any], "POST", f"{self._path}/rerun", again)
        return HttpRunHandle(self.client, UUID(done["id"]), self._flow, created=True)

    def rerun_plan(self, from_step: str | None = None, *, input: Mapping[str, Any] | None = None) -> Rerun:
        """As `RunHandle.rerun_plan`."""
        again = {**self._again(from_step, input), "dry_run": True}
        return self.client.send(Rerun, "POST", f"{self._path}/rerun", again)

    def signal(
        self, name: str, payload: object = None, *, key: object = "", id: str | None = None, ttl: Timeout = None
    ) -> Delivery:
        """As `RunHandle.signal`."""
        length = None if ttl is None else format_duration(parse_duration(ttl))
        query = {"key": signal_key(key), "ttl": length}
        return self._deliver(f"{self._path}/signals/{part(name)}", payload, id, query)

    def answer(self, step: str, answer: object, *, id: str | None = None) -> Delivery:
        """As `RunHandle.answer`."""
        return self._deliver(f"/approvals/{self.id}/{part(step)}/answer", answer, id, {})

    def approval(self, step: str) -> Approval:
        """As `RunHandle.approval`."""
        return self.client.get(Approval, f"/approvals/{self.id}/{part(step)}")

    # ----

    def _deliver(self, path: str, payload: object, id: str | None, query: Mapping[str, Any]) -> Delivery:
        body = loads(payload_text(payload))
        headers = {} if id is None else {"Idempotency-Key": id}
        return self.client.send(Delivery, "POST", path, body, query, headers)

    def _do(self, what: str, body: Mapping[str, Any]) -> RunStatus:
        done: Mapping[str, Any] = self.client.send(dict[str, Any], "POST", f"{self._path}/{what}", body)
        return RunStatus(done["status"])

    def _again(self, from_step: str | None, input: Mapping[str, Any] | None) -> dict[str, Any]:
        given = None if input is None else loads(body_of(self._flow, input, ()))
        return {"from_step": from_step, "input": given}

    def _output(self, step: str, output: object) -> Any:
        handlers = {} if self._flow is None else self._flow.handlers
        handler = handlers.get(self.step(step).type or "")
        return output if handler is None else loads(handler.encode_output(output))
