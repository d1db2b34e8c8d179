"""Workers, a broker and a keeper played by hand on a real ledger, with the record that the checker reads."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import (
    Chain,
    Claimant,
    Dispatch,
    Failure,
    Finished,
    Lease,
    LeaseBeat,
    StartRequest,
    StepError,
    Success,
    UnknownVersion,
    WorkerInfo,
)
from orchestrator.core.manifest import Manifest
from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import claim_step, fail_step, finish_step, renew
from orchestrator.engine.sweeps import redispatch, sweep
from orchestrator.engine.webhooks import receive
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.ledger import listing
from orchestrator.ledger.dispatches import Patience, Search
from orchestrator.ledger.tx import Ledger
from orchestrator.webhooks.request import Request
from tests.edge.flows import HOOKS, SECRET
from tests.edge.signing import MANNERS, compact
from tests.proof import recorder
from tests.proof.history import SECOND, Call, Delivery, Fault, History, Limits
from tests.support.eventually import eventually

LEASE: Final = timedelta(seconds=1)
LIMITS: Final = Limits(lease_ns=SECOND, crash_limit=3, grace_ns=SECOND, liveness_ns=3 * SECOND, slack_ns=20_000_000)
CHAIN: Final = Chain(LEASE, frozenset({"demo.work", "demo.pay"}))


def owner(pid: int) -> str:
    """A worker with one pool child."""
    return f"host/{pid}/abcd/{pid + 1}"


class Died(Exception):
    """The process ends here."""


class Hands:
    """One ledger, one queue, one log."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        recorder.install(url)
        self.ledger = Ledger.connect(url, name="hands")
        self.log = folder / "effects.log"
        self.queue: list[Dispatch] = []
        self.calls: list[Call] = []
        self.deliveries: list[Delivery] = []
        self.faults: list[Fault] = []
        self.began_ns = time.monotonic_ns()

    def start(self, steps: dict[str, Any], **lists: Sequence[Any]) -> UUID:
        """A run of a new flow, its messages in the queue. `lists`: of its loops."""
        register.register(self.ledger, Manifest(name="demo", steps=steps))
        body = json.dumps({"fates": {key: {} for key in steps}, "lists": lists})
        begun = time.monotonic_ns()
        (started,) = start_run.start(self.ledger, [StartRequest("demo", body)])
        self.calls.append(Call("start", "demo", begun, time.monotonic_ns(), "ok", None, body, str(started.run_id)))
        self.queue += started.dispatches
        return started.run_id

    def deliver(self, event: str) -> None:
        """GitHub tells of this; what comes of it is answered, or the server dies at it."""
        trigger = {"hook-github": HOOKS["hook-github"]}
        manifest = Manifest(name="demo", steps={"a": {"type": "work", "inputs": {"seen": []}}}, triggers=trigger)
        register.register(self.ledger, manifest)
        body = {"id": event, "fates": {"a": {}}, "lists": {}}
        content, begun = compact(body), time.monotonic_ns()
        headers = MANNERS["hook-github"].sign(event, content, SECRET)
        sent = Delivery(
            "hook-github", "demo", event, json.dumps(body), begun, begun, "unknown", genuine=True, insists=True
        )
        try:
            request = Request.of(content, headers, url="https://flows.example/api/webhook/hook-github")
            received = receive.receive(self.ledger, Gatekeeper(lambda reference: SECRET), "hook-github", request)
        except Died:
            self.deliveries.append(replace(sent, ended_ns=time.monotonic_ns()))
            return
        reply: Literal["new", "seen"] = "new" if received.outcome == "started" else "seen"
        told = replace(sent, ended_ns=time.monotonic_ns(), reply=reply, run_id=str(received.run_id))
        self.deliveries.append(told)
        self.queue += received.dispatches

    def take(self, pid: int, name: str | None = None) -> Lease | None:
        """The next message: claim its step."""
        return self.act(self.queue.pop(0), pid, name)

    def act(self, one: Dispatch, pid: int, name: str | None = None) -> Lease | None:
        """On a message."""
        facts = {"run": str(one.run_id), "step": one.step_key, "number": one.number}
        recorder.write_line(str(self.log), kind="message", **facts)
        found = claim_step.claim(self.ledger, one.run_id, one.step_key, one.number, Claimant(name or owner(pid), LEASE))
        assert not isinstance(found, UnknownVersion), "it asks for no version"
        return found

    def begin(self, lease: Lease, pid: int) -> str:
        """The handler's first line."""
        token = secrets.token_hex(6)
        seen = [value["token"] for value in json.loads(claim_step.inputs(self.ledger, lease)).get("seen", ())]
        run_id = str(lease.run_id)
        recorder.write_line(
            str(self.log),
            kind="start",
            token=token,
            run=run_id,
            step=lease.step_key,
            attempt=lease.attempt,
            key=f"{run_id}:{lease.step_key}",
            seen=sorted(seen),
            pid=pid + 1,
        )
        return token

    def finish(self, lease: Lease, token: str, *, chain: Chain | None = None, tx: Connection | None = None) -> Finished:
        """The handler's last line, and the completion."""
        recorder.write_line(str(self.log), kind="end", token=token)
        output = json.dumps({"token": token})
        finished = finish_step.finish(self.ledger, lease, Success(output, chain=chain), tx)
        self.queue += finished.dispatches
        return finished

    def fail(self, lease: Lease, token: str) -> None:
        """The handler's last line, and the end of its last attempt."""
        recorder.write_line(str(self.log), kind="error", token=token)
        failed = fail_step.fail(self.ledger, lease, Failure(StepError("Hopeless", "nothing helps"), retryable=False))
        self.queue += failed.dispatches

    def do(self, pid: int) -> None:
        """Take the next message, and do what it asks for."""
        lease = self.take(pid)
        if lease is not None:
            self.finish(lease, self.begin(lease, pid))

    def drain(self, pid: int) -> None:
        """Whatever is in the queue."""
        while self.queue:
            self.do(pid)

    def renew(self, lease: Lease) -> None:
        renew.renew(self.ledger, [LeaseBeat(lease.run_id, lease.step_key, lease.fence, None)], LEASE)

    def expire(self) -> None:
        """Wait until a lease is over and a keeper has put its step back."""
        swept = eventually(lambda: sweep.expired(self.ledger, crash_limit=3).dispatches, message="a lease runs out")
        self.queue += swept

    def send_again(self) -> None:
        """A keeper's look at an empty queue."""
        after = timedelta(seconds=0.1)
        patience = Patience(after, after, worker_ttl=LEASE * 60)
        self.queue += redispatch.lost(self.ledger, Search("default", range(10), 10), patience).dispatches

    def open_runs(self) -> int:
        return len(listing.list_runs(self.ledger, RunFilter.of(status=RunStatus.RUNNING), limit=9)) + len(
            listing.list_runs(self.ledger, RunFilter.of(status=RunStatus.PENDING), limit=9)
        )

    def introduce(self, handlers: Sequence[str] = ("demo.work",)) -> None:
        """A live worker with these handlers."""
        found = WorkerInfo("host/1/ab", "host", 1, "threads", 1, 1, ("default",), tuple(handlers), "test")
        workers.hello(self.ledger, found)

    def fault(self, kind: str, pid: int) -> None:
        """A fault of the worker that lasts until now, and began with the experiment."""
        pids = frozenset({pid, pid + 1})
        self.faults.append(Fault(kind, f"w{pid}", self.began_ns, time.monotonic_ns(), pids))

    def history(self) -> History:
        offset = recorder.Offset.now()
        invocations, messages = recorder.read_log(self.log)
        return History(
            invocations=tuple(invocations),
            calls=tuple(self.calls),
            deliveries=tuple(self.deliveries),
            faults=tuple(self.faults),
            changes=tuple(recorder.changes(self.url, offset)),
            messages=tuple(messages),
            final=recorder.final_rows(self.url, offset),
            manifests=recorder.manifests(self.url),
            effects=recorder.effects(self.url),
            limits=LIMITS,
            ended_ns=time.monotonic_ns(),
        )

    def close(self) -> None:
        self.ledger.close()
