"""One run over HTTP."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

from pydantic import JsonValue

from orchestrator.authoring.flow import Flow
from orchestrator.client.given import at_least_one, body_of, known, payload_text, signal_key
from orchestrator.client.remote.access import HttpAccess, nobody_else
from orchestrator.client.remote.transport import Ask, made, part
from orchestrator.client.runtree import RunTree
from orchestrator.client.waits import Timeout, ended, final, seconds
from orchestrator.client.walks import RunWalks
from orchestrator.core.durations import format_duration, parse_duration
from orchestrator.core.facts import Explanation
from orchestrator.core.rerun import Rerun
from orchestrator.core.signals import Delivery
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.core.values import loads
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.reads.rows import AttemptRow, ChildRow, EventRow, RunRow, StepRow
from orchestrator.ledger.reads.steps import FOLD, PAGE
from orchestrator.ledger.timelines import Timeline

R = TypeVar("R")

_BATCHES: Final = 500
"""Of log lines, in one answer."""
_ATTEMPTS: Final = 100
"""In one answer."""


class HttpRunHandle(RunWalks, Generic[R]):
    """As `RunHandle`. Whoever has the API key is the author of what is done."""

    def __init__(
        self, client: HttpAccess, run_id: UUID, flow: Flow[..., R] | None = None, *, created: bool = False
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
        return self.client.transport.get(RunRow, self._path)

    def status(self) -> RunStatus:
        """Where the run stands now."""
        return self.row().status

    def final_status(self) -> RunStatus | None:
        """As `RunHandle.final_status`."""
        status = self.status()
        return status if status in FINAL_RUN else None

    def wait(self, timeout: Timeout = None) -> RunStatus:
        """As `RunHandle.wait`."""
        limit_s = seconds(timeout)
        end = self.end_within(limit_s)
        try:
            return end.result(limit_s)
        except TimeoutError:
            return self.final(self.status(), limit_s)
        finally:
            end.cancel()

    def end(self) -> "Future[RunStatus]":
        """As `RunHandle.end`."""
        return self.end_within(None)

    def end_within(self, limit_s: float | None) -> "Future[RunStatus]":
        """The same, for somebody who will cancel it after that time: the API waits no longer."""
        return self.client.waits.ended(self._path, limit_s)

    def result(self, timeout: Timeout = None) -> R:
        """As `RunHandle.result`. If there are secrets in it, the audit has who got them.

        Raises:
            Forbidden: there are, and the role and scopes of this key do not allow to see them.
        """
        return self.outcome(self.wait(timeout))

    def outcome(self, status: RunStatus) -> R:
        """The result of a run that has ended with `status`, or the error that says how it ended."""
        if status is not RunStatus.SUCCEEDED:
            why = self.explain()
            raise ended(self.row(), why.fix or why.sentence)
        value = self.client.value(f"{self._path}/output")
        return cast(R, value) if self._flow is None else self._flow.decode_output(value)

    def shown_result(self) -> JsonValue:
        """As `RunHandle.shown_result`."""
        return self.client.shown_value(f"{self._path}/output")

    def final(self, status: RunStatus, timeout: float | None) -> RunStatus:
        """`status`, if it is a final one; else the error of a wait that is over."""
        return final(self.id, status, timeout)

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

    def _below(self, loop: str, after: str | None) -> list[StepRow]:
        return self.client.listed(StepRow, f"{self._path}/steps", {"loop": loop, "whole": True, "after": after}, PAGE)

    def step(self, key: str) -> StepRow:
        """As `RunHandle.step`."""
        step: StepRow = made(StepRow, self._step(key, None, 0)["step"])
        return step

    def attempts(self, step: str, *, before: int | None = None, limit: int = 50) -> list[AttemptRow]:
        """As `RunHandle.attempts`."""
        found: list[AttemptRow] = []
        left = at_least_one(limit)
        while left > 0:
            most = min(left, _ATTEMPTS)
            shown = self._step(step, before, most)
            page: list[AttemptRow] = made(list[AttemptRow], shown["attempts"])
            found = [*page, *found]
            if len(page) < most:
                break
            before, left = page[0].attempt, left - most
        return found

    def output(self, step: str) -> JsonValue:
        """As `RunHandle.output`. If there are secrets in it, the audit has who got them.

        Raises:
            Forbidden: there are, and the role and scopes of this key do not allow to see them.
        """
        return self.client.value(f"{self._path}/steps/{part(step)}/output")

    def shown_output(self, step: str) -> JsonValue:
        """As `RunHandle.shown_output`."""
        return self.client.shown_value(f"{self._path}/steps/{part(step)}/output")

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `RunHandle.events`."""
        return self.client.listed(EventRow, f"{self._path}/events", {"after": after}, at_least_one(limit))

    def logs(self, step: str | None = None, *, after: Place = BEGIN, limit: int = 100) -> list[LogLine]:
        """As `RunHandle.logs`."""
        found: list[LogLine] = []
        left = at_least_one(limit)
        while left > 0:  # the limit is one of batches, so the lines say nothing about it
            behind = None if after == BEGIN else "/".join(map(str, after))
            query = {"step": step, "after": behind, "limit": min(left, _BATCHES)}
            page: Mapping[str, Any] = self.client.transport.get(dict[str, Any], f"{self._path}/logs", query)
            if not page["items"]:
                break
            found += made(list[LogLine], page["items"])
            after, left = found[-1].place, left - _BATCHES
        return found

    def log_places(self, step: str | None = None) -> list[Place]:
        """As `RunHandle.log_places`."""
        return self.client.listed(Place, f"{self._path}/logs/places", {"step": step}, None)

    def timeline(self) -> Timeline:
        """As `RunHandle.timeline`."""
        return self.client.transport.get(Timeline, f"{self._path}/timeline")

    def reruns(self) -> list[UUID]:
        """As `RunHandle.reruns`."""
        return self.client.listed(UUID, f"{self._path}/reruns", {}, None)

    def children(self, step: str | None = None, *, after: UUID | None = None, limit: int = 50) -> list[ChildRow]:
        """As `RunHandle.children`."""
        query = {"step": step, "after": after}
        return self.client.listed(ChildRow, f"{self._path}/children", query, at_least_one(limit))

    def tree(self) -> RunTree:
        """As `RunHandle.tree`."""
        return self.client.transport.get(RunTree, f"{self._path}/tree")

    def explain(self, step: str | None = None) -> Explanation:
        """As `RunHandle.explain`."""
        return self.client.transport.get(Explanation, f"{self._path}/explain", {"step": step})

    def graph(self, language: str = "tree") -> str:
        """As `RunHandle.graph`."""
        return self.client.transport.text(f"{self._path}/graph", {"language": language})

    def cancel(self, reason: str = "", *, by: str | None = None) -> RunStatus:
        """As `RunHandle.cancel`."""
        return self._do("cancel", {"reason": reason or None}, by)

    def delete(self, reason: str | None = None, *, by: str | None = None) -> None:
        """As `RunHandle.delete`. It takes a key whose role is admin."""
        nobody_else(by)
        self.client.transport.ask(Ask("DELETE", self._path, {"reason": reason}))

    def retry(
        self, step: str | None = None, *, by: str | None = None, force: bool = False, fresh: bool = False
    ) -> None:
        """As `RunHandle.retry`."""
        self._do("retry" if step is None else f"steps/{part(step)}/retry", {"force": force, "fresh": fresh}, by)

    def skip(self, step: str, reason: str, *, by: str | None = None) -> None:
        """As `RunHandle.skip`."""
        self._do(f"steps/{part(step)}/skip", {"reason": reason}, by)

    def mark(self, step: str, output: object, reason: str, *, by: str | None = None) -> None:
        """As `RunHandle.mark`."""
        self._do(f"steps/{part(step)}/mark", {"output": self._output(step, output), "reason": reason}, by)

    def rerun(
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> "HttpRunHandle[R]":
        """As `RunHandle.rerun`."""
        nobody_else(by)
        again = self._again(from_step, input, changes)
        done: Mapping[str, Any] = self.client.transport.post(dict[str, Any], f"{self._path}/rerun", again)
        return HttpRunHandle(self.client, UUID(done["id"]), self._flow, created=True)

    def rerun_plan(
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Rerun:
        """As `RunHandle.rerun_plan`."""
        again = {**self._again(from_step, input, changes), "dry_run": True}
        return self.client.transport.post(Rerun, f"{self._path}/rerun", again, again=True)

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
        """As `RunHandle.signal`."""
        length = None if ttl is None else format_duration(parse_duration(ttl))
        query = {"key": signal_key(key) or None, "ttl": length}
        return self._deliver(f"{self._path}/signals/{part(name)}", payload, id, by, query)

    def answer(self, step: str, answer: object, *, id: str | None = None, by: str | None = None) -> Delivery:
        """As `RunHandle.answer`. If the approval asks somebody, whoever has the key has to be that."""
        return self._deliver(f"/approvals/{self.id}/{part(step)}/answer", answer, id, by, {})

    def approval(self, step: str) -> Approval:
        """As `RunHandle.approval`."""
        return self.client.transport.get(Approval, f"/approvals/{self.id}/{part(step)}")

    # ----

    def _step(self, key: str, before: int | None, attempts: int) -> Mapping[str, Any]:
        query = {"before": before, "attempts": attempts}
        return self.client.transport.get(dict[str, Any], f"{self._path}/steps/{part(key)}", query)

    def _deliver(
        self, path: str, payload: object, id: str | None, by: str | None, query: Mapping[str, Any]
    ) -> Delivery:
        nobody_else(by)
        body = loads(payload_text(payload))
        return self.client.transport.post(Delivery, path, body, query, key=id)

    def _do(self, what: str, body: Mapping[str, Any], by: str | None) -> RunStatus:
        nobody_else(by)
        done: Mapping[str, Any] = self.client.transport.post(dict[str, Any], f"{self._path}/{what}", body)
        return RunStatus(done["status"])

    def _again(
        self, from_step: str | None, input: Mapping[str, Any] | None, changes: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if input is not None:
            given = loads(body_of(self._flow, {**input, **(changes or {})}, ()))
            return {"from_step": from_step, "input": given}
        return {"from_step": from_step, "changes": None if changes is None else loads(body_of(None, changes, ()))}

    def _output(self, step: str, output: object) -> Any:
        handlers = {} if self._flow is None else self._flow.handlers
        handler = handlers.get(self.step(step).type or "")
        return output if handler is None else loads(handler.encode_output(output))
