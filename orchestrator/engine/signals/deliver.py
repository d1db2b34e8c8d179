"""A signal comes to a run: a step that waits takes it, or it is kept for one that will, or it is refused.

Delivery, the end of a wait's time, a cancel and a retry all hold the run: whoever is first decides, and the others are
told what they found.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from time import monotonic
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, Row

from orchestrator.core import values
from orchestrator.core.facts import Dispatch, Finished
from orchestrator.core.happened import Delivered, RunOf, Waited
from orchestrator.core.plan import Expected
from orchestrator.core.schemas import misfit
from orchestrator.core.signals import KEPT_LIMIT, KEY_LIMIT, PAYLOAD_LIMIT, Delivery, Signal
from orchestrator.core.states import FINAL_RUN, FINAL_STEP, RunStatus, StepStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.wording import listed
from orchestrator.engine.faults import fp
from orchestrator.engine.signals import approvals, below
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.errors import (
    ApprovalNotFound,
    ApprovalNotOpen,
    Forbidden,
    OrchestratorError,
    SignalIdUsed,
    SignalInvalid,
    SignalNotFound,
    SignalsFull,
    SignalTaken,
    SignalTooLarge,
    SignalTooLate,
    SignalUnreadable,
    UsageError,
)
from orchestrator.ledger import graph, signals
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify
from orchestrator.observe.traces import incoming

_KEYS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a signal. The dispatches are for the caller to publish, those of a refusal too: the time of a
    wait may have been over."""

    answer: Delivery | OrchestratorError
    run: RunOf
    name: str
    began: float
    """When it came here, on the monotonic clock."""
    followed: tuple[Finished, ...] = ()
    waited: Waited | None = None
    """Told after the commit: that it ended a wait."""

    @property
    def dispatches(self) -> tuple[Dispatch, ...]:
        return tuple(dispatch for one in self.followed for dispatch in one.dispatches)

    def delivery(self) -> Delivery:
        """
        Raises:
            SignalNotFound, SignalIdUsed, SignalInvalid, SignalTaken, SignalTooLate, SignalsFull, ApprovalNotFound,
                ApprovalNotOpen: it was refused.
        """
        if isinstance(self.answer, OrchestratorError):
            raise self.answer
        return self.answer


def deliver(ledger: Ledger, run_id: UUID, id: str, signal: Signal) -> Outcome:
    """Send a signal to a run. With the same id it may be sent again: it is delivered once.

    Raises:
        RunNotFound: no such run.
        SignalUnreadable, SignalTooLarge, UsageError: what was sent is no signal at all.
    """
    fp("signal.before")
    outcome = ledger.retry(lambda tx: deliver_in(ledger, tx, run_id, id, signal))
    fp("signal.committed")
    notify_delivered(outcome)
    return outcome


def deliver_in(ledger: Ledger, tx: Connection, run_id: UUID, id: str, signal: Signal) -> Outcome:
    """Like `deliver`, as part of the caller's transaction, which is to be committed, also with a refusal: the time of a
    wait may have been over. Observers are for the caller to notify, after the commit.

    Raises: as `deliver`.
    """
    value = _payload(id, signal)
    return _Sending(HeldRun.lock(ledger, tx, run_id), id, signal, value).outcome()


def notify_delivered(outcome: Outcome) -> None:
    """Notify observers of what a signal led to, after the commit."""
    if outcome.waited is not None:
        notify(outcome.waited)
    if isinstance(outcome.answer, Delivery) and not outcome.answer.duplicate:
        took_s = monotonic() - outcome.began
        notify(Delivered("signal", outcome.run, outcome.name, took_s, outcome.answer.step, incoming.current()))
    for one in outcome.followed:
        notify_followed(outcome.run, one)


def _payload(id: str, signal: Signal) -> JsonValue:
    for what, text in (("id", id), ("key", signal.key), ("sender", signal.by or "-")):
        if (not text and what != "key") or len(text) > KEY_LIMIT:
            raise UsageError(f"The {what} of a signal is {text!r:.60}. Fix: give 1 to {KEY_LIMIT} characters.")
    size = len(signal.payload.encode(errors="surrogatepass"))
    if size > PAYLOAD_LIMIT:
        raise SignalTooLarge(
            f"The payload of signal {signal.name} has {size:,} bytes, and {PAYLOAD_LIMIT:,} are allowed. Fix: store it "
            "elsewhere, and send where it is.",
            size_bytes=size,
        )
    try:
        value: JsonValue = json.loads(signal.payload, parse_constant=_not_json)
    except (ValueError, RecursionError) as exc:
        raise SignalUnreadable(f"The payload of signal {signal.name} is not JSON: {exc}. Fix: send JSON.") from exc
    refused = values.refusal([value, id, signal.key, signal.by, signal.name])
    if refused is not None:
        raise SignalUnreadable(
            f"The payload of signal {signal.name!r:.60} holds {refused.problem}, which cannot be stored. Fix: replace "
            "or remove it."
        )
    return value


def _not_json(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


@dataclass
class _Sending:
    """One signal, on its way to the run that is held."""

    held: HeldRun
    id: str
    signal: Signal
    value: JsonValue
    followed: list[Finished] = field(default_factory=list)
    waited: Waited | None = None
    _began: float = field(default_factory=monotonic)

    @property
    def _tx(self) -> Connection:
        return self.held.tx

    @property
    def _run_id(self) -> UUID:
        return self.held.id

    def outcome(self) -> Outcome:
        answer = self._answer()
        if isinstance(answer, OrchestratorError):
            self._note_refusal(answer)
        run = self.held.run
        fact = RunOf(run.id, run.flow, run.trigger)
        return Outcome(answer, fact, self.signal.name, self._began, tuple(self.followed), self.waited)

    def _answer(self) -> Delivery | OrchestratorError:
        known = signals.sent(self._tx, self._run_id, self.signal.name, self.id)
        if known is not None:
            return known.again(self.id) if known.digest == self._digest else self._id_used(known)
        refused = self._answered() or self._closed() or self._unknown() or self._unfit()
        return refused or self._delivered() or self._closed() or self._kept()

    @cached_property
    def _digest(self) -> str:
        return self.signal.digest(self.value)

    @cached_property
    def _waits(self) -> Sequence[Expected]:
        """The waits of the flow for it."""
        known = self.held.plan.expected(self.signal.name)
        return [one for one in known if not self.signal.answers or one.wait.approval is not None]

    @property
    def _asks(self) -> bool:
        """Whether this is the answer to something that was asked."""
        return any(one.wait.approval is not None for one in self._waits)

    def _states(self) -> dict[str, StepStatus]:
        """Where the steps stand that wait for it, or that such steps are inside of. Of what is asked in an item: the
        step, or the nearest around it that is there."""
        tops = [one.top for one in self._waits]
        around = [key for top in tops for key in accumulate(top.split("."), "{}.{}".format)]
        found = graph.statuses(self._tx, self._run_id, around)
        return {key: found[key] for key in (tops if len(around) == len(tops) else [max(found, key=len)])}

    def _delivered(self) -> Delivery | Forbidden | None:
        """The step that has waited longest takes it; those whose time is over by now are ended before."""
        name, key = self.signal.name, self.signal.key
        while (oldest := signals.oldest(self._tx, self._run_id, name, key)) is not None:
            if oldest.over:
                self.followed.append(advance.woken(self.held, [oldest.step_key]))
                self.held = HeldRun.lock(self.held.ledger, self._tx, self._run_id)
                continue
            step = oldest.step_key
            if (refused := self._not_asked(step)) is not None:
                return refused
            signals.add(self._tx, self._run_id, self.id, self.signal, self._digest)
            wait = self.held.plan.node(step).awaited
            assert wait is not None
            at = signals.take(self._tx, self._run_id, step, wait, self.id)
            assert at is not None
            fp("signal.taken")
            self.waited = Waited(self.held.run.flow, oldest.waited_s)
            self.followed.append(advance.taken(self.held, step))
            return Delivery(True, False, False, self.id, at, step)
        return None

    def _not_asked(self, step: str) -> Forbidden | None:
        """An approval that asks somebody takes the answer of nobody else."""
        row = None if self.signal.may is None else signals.approval(self._tx, self._run_id, step)
        if row is None or self.signal.may is None or self.signal.may(row.assignee or None):
            return None
        return Forbidden(
            f"This asks {row.assignee}, and {self.signal.by} is not that. Fix: let them answer.", needed=row.assignee
        )

    def _kept(self) -> Delivery | OrchestratorError:
        """Nothing waits for it: it is kept, if anything still may."""
        states = self._states()
        if FINAL_STEP.issuperset(states.values()):
            return self._over(states)
        if self._asks:
            if StepStatus.RUNNING in states.values():  # a loop that has opened, and has no such item
                return self._asks_nobody()
            return ApprovalNotOpen(
                f"Step {self.signal.name} of run {self._run_id} has not asked yet. Fix: `orchestrator run explain "
                f"{self._run_id}/{self.signal.name}` says what it waits for.",
                step_key=self.signal.name,
                run_id=str(self._run_id),
            )
        if not self.signal.key and all(one.wait.key != "" for one in self._waits):
            return self._without_key()
        if signals.count_kept(self._tx, self._run_id, KEPT_LIMIT) >= KEPT_LIMIT:
            return SignalsFull(
                f"Run {self._run_id} keeps {KEPT_LIMIT:,} signals that no step has taken, which is the most it may. "
                "Fix: send it when a step waits for it.",
                **self._facts,
            )
        return signals.keep(self._tx, self._run_id, self.id, self.signal, self._digest)

    # ---- refusals ----

    @property
    def _facts(self) -> dict[str, str]:
        return {"run_id": str(self._run_id), "name": self.signal.name}

    def _id_used(self, known: signals.Sent) -> SignalIdUsed:
        return SignalIdUsed(
            f"Id {self.id} was used with another payload or key at {known.sent_at.isoformat()}, for signal "
            f"{self.signal.name} of run {self._run_id}. Fix: send what is new with an id of its own.",
            **self._facts,
            id=self.id,
        )

    def _closed(self) -> SignalTooLate | None:
        run = self.held.run
        if run.status in FINAL_RUN:
            again = "run it again" if run.status is RunStatus.SUCCEEDED else "retry it or run it again"
            why, fix = f"has ended: {run.status}", f"{again}, then send the signal again"
        elif run.halt is not None:
            why, fix = "is being stopped", "start another run, if it is wanted after all"
        else:
            return None
        return SignalTooLate(f"Run {run.id} {why}. Fix: {fix}.", **self._facts, status=run.status.value)

    def _unknown(self) -> SignalNotFound | ApprovalNotFound | None:
        if self._waits:
            return None
        name = self.signal.name
        child = below.waits_for(self.held.ledger, self._tx, self._run_id, name, answers=self.signal.answers)
        if self.signal.answers:
            return self._asks_nobody(child)
        what = f"Flow {self.held.run.flow} of run {self._run_id} waits for no signal {name!r:.100}"
        if child is not None:
            fix = f"send it to that one: `orchestrator run signal {child.id} {name}`"
            return SignalNotFound(f"{what}; {below.named(child)} does. Fix: {fix}.", **self._facts, child=str(child.id))
        hint = did_you_mean(name, list(self.held.plan.awaited)) or "it waits for none."
        return SignalNotFound(f"{what}. Fix: {hint}", **self._facts)

    def _asks_nobody(self, child: Row[Any] | None = None) -> ApprovalNotFound:
        name = self.signal.name
        return approvals.not_asked(f"asks nobody at step {name!r:.100}", self._run_id, name, child)

    def _without_key(self) -> SignalNotFound:
        """It could never be taken."""
        keys = signals.open_keys(self._tx, self._run_id, self.signal.name, _KEYS_SHOWN + 1)
        shown = [*map(repr, keys[:_KEYS_SHOWN]), *(["more"] if len(keys) > _KEYS_SHOWN else [])]
        now = f"waiting now: {listed(shown)}" if shown else "none waits now"
        return SignalNotFound(
            f"Signal {self.signal.name} of run {self._run_id} was sent without a key, and whatever waits for it has "
            f"one ({now}). Fix: say with `key` which one it is for.",
            **self._facts,
        )

    def _unfit(self) -> SignalInvalid | None:
        """Of one name there is one schema."""
        form = self._waits[0].wait.form
        wrong = misfit(json.dumps(form, sort_keys=True), self.value, self.held.secrets.names)
        if wrong is None:
            return None
        path = values.show_path(wrong.path)
        return SignalInvalid(
            f"The payload of signal {self.signal.name} does not fit{f' at `{path}`' if path else ''}: "
            f"{wrong.message}. Fix: `orchestrator flow show {self.held.run.flow} -o json` shows what it takes.",
            **self._facts,
            path=path,
        )

    def _answered(self) -> SignalTaken | None:
        """Whoever answers second is told who was first, also when the run has ended since."""
        if not self.signal.answers:
            return None
        return self._taken(self._last())

    def _over(self, states: dict[str, StepStatus]) -> OrchestratorError:
        """Every wait for it is over: one took a signal, or none did."""
        last = self._last()
        if (taken := self._taken(last)) is not None:
            return taken
        key, status = next(iter(states.items())) if last is None else (last.step_key, StepStatus(last.status))
        return SignalTooLate(
            f"Nothing waits for signal {self.signal.name} of run {self._run_id} any more: step {key} "
            f"{_ended(status)}. Fix: retry that step, or run the run again, then send the signal again.",
            **self._facts,
            status=self.held.run.status.value,
        )

    def _last(self) -> Row[Any] | None:
        """The wait for it that ended last."""
        return signals.last(self._tx, self._run_id, self.signal.name, self.signal.key)

    def _taken(self, last: Row[Any] | None) -> SignalTaken | None:
        if last is None or last.signal_id is None or last.status != StepStatus.SUCCEEDED:
            return None
        by = f" by {last.delivered_by}" if last.delivered_by else ""
        what = f"Signal {self.signal.name} was delivered to run {self._run_id} already: step {last.step_key} took it"
        if self._asks:
            what = f"{last.title!r} of run {self._run_id} was answered already"
        return SignalTaken(
            f"{what}{by} at {last.delivered_at.isoformat()}. Fix: nothing, if once is enough.",
            **self._facts,
            step_key=last.step_key,
            by=last.delivered_by,
        )

    def _note_refusal(self, error: OrchestratorError) -> None:
        facts: dict[str, JsonValue] = {
            "name": self.signal.name[:KEY_LIMIT],
            "key": self.signal.key,
            "id": self.id,
            "by": self.signal.by,
            "code": error.code,
        }
        given: JsonValue = {name: value for name, value in facts.items() if value}
        graph.event(self._tx, self._run_id, "signal.refused", facts=given)


def _ended(status: StepStatus) -> str:
    if status is StepStatus.SUCCEEDED:
        return "went on without one"
    return "failed" if status is StepStatus.FAILED else f"was {status}"
