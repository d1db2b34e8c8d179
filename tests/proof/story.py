"""Histories told by hand, one transaction per sentence: what a test of the checker starts from."""

import json
from dataclasses import replace
from typing import Any, Literal

from tests.proof.history import SECOND, Call, Change, Fault, History, Invocation, Limits, Message, Row, Sent, with_old

HASH = "h1"
RUN = "run-1"
MAIN, CHILD = 10, 11
OWNER = f"host/{MAIN}/aa/{CHILD}"
OTHER = "host/20/bb/21"
LIMITS = Limits(lease_ns=4 * SECOND, crash_limit=2, grace_ns=SECOND, liveness_ns=10 * SECOND, slack_ns=5_000_000)


def call(after: dict[str, list[str]] | None = None, **fields: Any) -> dict[str, Any]:
    """A plain step that is given the outputs of its predecessors."""
    seen = [f"@steps('{key}').output" for key in after or {}]
    return {"type": "work", "inputs": {"seen": seen}, "run_after": after or {}, **fields}


def chain(**fields: Any) -> dict[str, Any]:
    """`a`, then `b`; `fields` are of `a`."""
    return {"a": call(**fields), "b": call({"a": ["succeeded"]})}


class Story:
    """One run of one flow, a ledger's rows, and a clock. Every sentence takes a tenth of a second."""

    def __init__(self, steps: dict[str, Any] | None = None, **manifest: Any) -> None:
        self.steps = steps or chain()
        self.manifest = {"name": "demo", "steps": self.steps, **manifest}
        self.now = 100 * SECOND
        self.changes: list[Change] = []
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}
        self.invocations: list[Invocation] = []
        self.messages: list[Message] = []
        self.calls: list[Call] = []
        self.sent: list[Sent] = []
        self.faults: list[Fault] = []
        self.effects: dict[str, tuple[int, ...]] = {}
        self.quiet: list[tuple[int, int]] = []
        self.body: dict[str, Any] = {}
        self._xid = 0

    # ---- the pen ----

    def tick(self, seconds: float = 0.1) -> int:
        self.now += int(seconds * SECOND)
        return self.now

    def commit(self) -> None:
        """A new transaction."""
        self.tick()
        self._xid += 1

    def put(self, table: str, key: tuple[Any, ...], **new: Any) -> None:
        """Insert or update a row in the present transaction; None takes a column away."""
        name = (table, *map(str, key))
        old = self.rows.get(name)
        row = {column: value for column, value in {**(old or {}), **new}.items() if value is not None}
        self._write(table, "insert" if old is None else "update", {}, row)
        self.rows[name] = row

    def drop(self, table: str, key: tuple[Any, ...]) -> None:
        self._write(table, "delete", self.rows.pop((table, *map(str, key))), {})

    def _write(self, table: str, op: Literal["insert", "update", "delete"], old: Row, new: Row) -> None:
        row = new or old
        run_id, step_key = row.get("run_id") or row.get("id", ""), row.get("step_key", "")
        seq = len(self.changes) + 1
        change = Change(seq, self.now, self._xid, table, op, old, dict(new), run_id, step_key, self.now)
        self.changes.append(change)

    def step(self, key: str) -> dict[str, Any]:
        return self.rows["flow_steps", RUN, key]

    def claim_row(self, key: str) -> dict[str, Any]:
        return self.rows.get(("flow_step_claims", RUN, key), {})

    def set_step(self, key: str, **new: Any) -> None:
        self.put("flow_steps", (RUN, key), run_id=RUN, step_key=key, **new)

    def set_run(self, **new: Any) -> None:
        self.put("flow_runs", (RUN,), id=RUN, **new)

    # ---- the run ----

    def start(self, key: str | None = None, fates: dict[str, Any] | None = None, **lists: Any) -> "Story":
        """Accepted: the run, its steps, the first dispatches."""
        plain: dict[str, Any] = {name: {} for name, step in self.steps.items() if "steps" not in step}
        self.body = {"fates": {**plain, **(fates or {})}, "lists": lists}
        self.commit()
        self.set_run(
            flow="demo",
            manifest_hash=HASH,
            status="pending",
            epoch=1,
            sinks_open=1,
            created_at=self.now,
            trigger_key=key,
        )
        for name, step in self.steps.items():
            self.set_step(name, type=step.get("type"), status="blocked", attempts=0, dispatch_no=0)
        for name, step in self.steps.items():
            if not step.get("run_after") and ("type" in step or "sleep" in step):
                self._dispatch(name)
        self.asked("start", key=key)
        return self

    def asked(
        self,
        kind: Literal["start", "cancel", "retry", "settle"],
        reply: Literal["ok", "refused", "unknown"] = "ok",
        key: str | None = None,
        body: dict[str, Any] | None = None,
        run_id: str | None = RUN,
        step_key: str = "",
    ) -> None:
        """A client's call and its reply."""
        text = json.dumps(self.body if body is None else body)
        self.calls.append(Call(kind, "demo", self.now, self.tick(), reply, key, text, run_id, step_key))

    def _dispatch(self, key: str) -> None:
        number = self.rows.get(("flow_steps", RUN, key), {}).get("dispatch_no", 0) + 1
        self.set_step(key, status="ready", dispatch_no=number, ready_at=self.now, due_at=None)
        self.put("flow_step_dispatches", (RUN, key, number), run_id=RUN, step_key=key, dispatch_no=number)

    def ready(self, key: str) -> None:
        """Dispatched (again)."""
        self.commit()
        self._dispatch(key)

    def message(self, key: str) -> None:
        """A worker takes the message of the last dispatch."""
        self.messages.append(Message(RUN, key, self.step(key).get("dispatch_no", 1), CHILD, self.tick()))

    def claim(self, key: str, owner: str = OWNER, **changes: Any) -> None:
        """A new claim: version, attempt, RUNNING. It is the running attempt."""
        self.commit()
        attempt = self.step(key)["attempts"] + 1
        version = self.claim_row(key).get("version", 0) + 1
        since = self.step(key).get("started_at", self.now)
        self.set_step(key, status="running", attempts=attempt, started_at=since)
        claim = {"owner": owner, "version": version, "attempt": attempt, "expires_at": self.now + LIMITS.lease_ns}
        self.put("flow_step_claims", (RUN, key), run_id=RUN, step_key=key, **{**claim, **changes})

    def begin(self, key: str, pid: int = CHILD, **changes: Any) -> str:
        """The handler's first line; its token."""
        attempt = self.step(key)["attempts"]
        token = f"{key}#{len(self.invocations)}"
        names = self.steps.get(key, {}).get("run_after", {})
        outputs = [self.rows.get(("flow_outputs", RUN, name), {}).get("output") for name in names]
        seen = tuple(output["token"] for output in outputs if isinstance(output, dict))
        one = Invocation(RUN, key, attempt, pid, f"{RUN}:{key}", self.tick(), token=token, seen=seen)
        self.invocations.append(replace(one, **changes))
        return token

    def end(self, token: str, outcome: Literal["end", "error"] = "end") -> None:
        """The handler's last line."""
        place = next(n for n, one in enumerate(self.invocations) if one.token == token)
        self.invocations[place] = replace(self.invocations[place], ended_ns=self.tick(), outcome=outcome)

    def over(self, key: str, status: str) -> None:
        """End the claim and the attempt, in the present transaction."""
        self.put("flow_step_claims", (RUN, key), expires_at=None)
        self.tried(key, status)

    def tried(self, key: str, status: str) -> None:
        """The row of the claim's attempt."""
        facts = {name: self.claim_row(key)[name] for name in ("attempt", "version", "owner")}
        self.put("flow_step_attempts", (RUN, key, facts["attempt"]), run_id=RUN, step_key=key, status=status, **facts)

    def finish(self, key: str, token: str) -> None:
        """The completion."""
        self.commit()
        self.over(key, "succeeded")
        self.set_step(key, status="succeeded")
        self.put("flow_outputs", (RUN, key), run_id=RUN, step_key=key, output={"token": token})

    def do(self, key: str, owner: str = OWNER) -> None:
        """Claim, run, finish."""
        self.claim(key, owner)
        token = self.begin(key)
        self.end(token)
        self.finish(key, token)

    def back_off(self, key: str, seconds: float = 1.0) -> None:
        """The handler failed; another attempt follows."""
        self.commit()
        self.over(key, "failed")
        failures = self.step(key).get("failures", 0) + 1
        self.set_step(key, status="waiting", failures=failures, due_at=self.now + int(seconds * SECOND))

    def park(self, key: str, seconds: float = 1.0) -> None:
        """A wait begins."""
        self.commit()
        self.set_step(key, status="waiting", started_at=self.now, wake_at=self.now + int(seconds * SECOND))

    def wake(self, key: str) -> None:
        """It is over."""
        self.commit()
        self.set_step(key, status="succeeded", wake_at=None, ended_at=self.now)

    def poll(self, key: str, seconds: float = 1.0, **changed: Any) -> None:
        """The handler is not ready."""
        self.commit()
        self.over(key, "polled")
        polls = self.step(key).get("polls", 0) + 1
        due_at = self.now + int(seconds * SECOND)
        self.set_step(key, **{"status": "waiting", "failures": 0, "polls": polls, "due_at": due_at, **changed})

    def fail(self, key: str) -> None:
        """For good."""
        self.commit()
        self.over(key, "failed")
        self.set_step(key, status="failed", failures=self.step(key).get("failures", 0) + 1)

    def skip(self, key: str, reason: str) -> None:
        self.commit()
        self.set_step(key, status="skipped", reason=reason)

    def lose(self, key: str) -> None:
        """The lease is over; READY again at the cost of a crash."""
        self.commit()
        self.over(key, "crashed")
        self.set_step(key, crashes=self.step(key).get("crashes", 0) + 1)
        self._dispatch(key)

    def released(self, kind: str) -> "Story":
        """A handler is torn away by this, and its step is released as by a deploy; another worker runs it."""
        self.claim("a")
        self.begin("a")
        self.fault(kind)
        self.tick()
        self.commit()
        self.over("a", "released")
        self._dispatch("a")
        self.do("a", OTHER)
        return self.end_run()

    def fault(self, kind: str = "kill", seconds: float = 1.0, pids: frozenset[int] = frozenset({MAIN, CHILD})) -> None:
        """It begins now, and time does not pass here."""
        self.faults.append(Fault(kind, "w0", self.now, self.now + int(seconds * SECOND), pids))

    def cancel(self) -> None:
        """The commit of a cancel: what had not begun is over."""
        self.commit()
        self.set_run(halt="cancelled")
        for key in self.steps:
            if self.step(key)["status"] in ("blocked", "ready", "waiting"):
                self.set_step(key, status="cancelled")
        self.asked("cancel")

    def end_run(self, status: str = "succeeded") -> "Story":
        self.commit()
        self.set_run(status=status, sinks_open=0)
        return self

    # ---- the end ----

    def history(self, **changes: Any) -> History:
        final: dict[str, list[Row]] = {}
        for name, row in self.rows.items():
            final.setdefault(name[0], []).append(row)
        runs = [{**row, "trigger_body": self.body} for row in final.get("flow_runs", ())]
        made = History(
            invocations=tuple(self.invocations),
            calls=tuple(self.calls),
            sent=tuple(self.sent),
            faults=tuple(self.faults),
            changes=tuple(with_old(self.changes)),
            messages=tuple(self.messages),
            final={**{name: tuple(rows) for name, rows in final.items()}, "flow_runs": tuple(runs)},
            manifests={HASH: self.manifest},
            effects=self.effects,
            quiet=tuple(self.quiet),
            limits=LIMITS,
            ended_ns=self.now,
        )
        return replace(made, **changes)


def told() -> Story:
    """Two steps in a row, nothing happens."""
    story = Story().start()
    story.message("a")
    story.do("a")
    story.ready("b")
    story.do("b")
    return story.end_run()
