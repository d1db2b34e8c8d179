"""A RedBeat entry whose schedule is ours: zones, gaps, folds, bounds and jitter as the ledger has them."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Self

from celery.schedules import BaseSchedule, schedstate
from redbeat.decoder import RedBeatJSONDecoder, RedBeatJSONEncoder
from redbeat.schedulers import RedBeatSchedulerEntry, get_redis

from orchestrator.core.schedule_ids import schedule_name
from orchestrator.core.timing import Cron, Every, Timing
from orchestrator.schedules.message import QUEUE, TASK

TYPE: Final = "orchestrator.timing"
_NEVER: Final = timedelta(days=365)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Fire:
    """A scheduled time, and when it is due: its jitter later."""

    scheduled: datetime
    due: datetime


class TimedSchedule(BaseSchedule):  # type: ignore[misc]
    """Celery's view of a `Timing`."""

    def __init__(self, timing: Timing, identity: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.timing = timing
        self.identity = identity

    def next(self, instant: datetime) -> Fire | None:
        """The first fire after `instant`; None: never again."""
        scheduled = self.timing.after(instant)
        return None if scheduled is None else Fire(scheduled, scheduled + self.timing.delay(self.identity, scheduled))

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        fire = self.next(last_run_at)
        return _NEVER if fire is None else fire.due - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, max(0.0, self.remaining_estimate(self.now()).total_seconds()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimedSchedule) and (self.timing, self.identity) == (other.timing, other.identity)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<TimedSchedule {self.identity}: {self.timing.rule!r}>"

    def as_json(self) -> dict[str, Any]:
        """Its form in Redis."""
        timing = self.timing
        return {
            "__type__": TYPE,
            "identity": self.identity,
            "rule": type(timing.rule).__name__.lower(),
            "of": timing.rule.model_dump(mode="json"),
            "jitter_s": timing.jitter.total_seconds(),
            "start": timing.start.isoformat() if timing.start else None,
            "end": timing.end.isoformat() if timing.end else None,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Self:
        """Back from that form."""
        rule = (Cron if given["rule"] == "cron" else Every)(**given["of"])
        bounds = (datetime.fromisoformat(given[name]) if given[name] else None for name in ("start", "end"))
        return cls(Timing(rule, timedelta(seconds=given["jitter_s"]), *bounds), given["identity"])


class _Encoder(RedBeatJSONEncoder):  # type: ignore[misc]
    def default(self, obj: Any) -> Any:
        return obj.as_json() if isinstance(obj, TimedSchedule) else super().default(obj)


class _Decoder(RedBeatJSONDecoder):  # type: ignore[misc]
    def dict_to_object(self, d: dict[str, Any]) -> Any:
        return TimedSchedule.from_json(d) if d.get("__type__") == TYPE else super().dict_to_object(d)


@lru_cache(maxsize=20_000)
def _decoded(text: str) -> dict[str, Any]:
    """Cached: definitions change rarely, and each is read at every tick."""
    found: dict[str, Any] = json.loads(text, cls=_Decoder)
    return found


class LedgerEntry(RedBeatSchedulerEntry):  # type: ignore[misc]
    """`last_run_at` is the time after which it fires next, in the terms of its rule."""

    @classmethod
    def of(cls, app: Any, flow: str, key: str, timing: Timing, next_at: datetime) -> Self:
        """The entry of a schedule whose next undecided tick is `next_at`."""
        name = schedule_name(flow, key)
        entry = cls(
            name=name,
            task=TASK,
            schedule=TimedSchedule(timing, name),
            args=[flow, key],
            options={"queue": QUEUE},
            app=app,
        )
        entry.last_run_at = next_at - _SECOND
        return entry

    @classmethod
    def read(cls, app: Any, definition: str, meta: str | None) -> Self:
        """From its fields in Redis.

        Raises:
            ValueError, KeyError, TypeError: they do not make an entry of ours.
        """
        found, known = dict(cls.decode_definition(definition)), cls.decode_meta(meta)
        if not isinstance(found["schedule"], TimedSchedule):
            raise TypeError("it is not an entry of ours")
        entry = cls(app=app, **found)
        entry.last_run_at = known["last_run_at"]
        entry.total_run_count = known.get("total_run_count") or 0
        return entry

    @staticmethod
    def decode_definition(definition: str) -> dict[str, Any]:
        return _decoded(definition)

    @property
    def definition(self) -> str:
        """The field of this name in Redis."""
        return json.dumps(
            {
                "name": self.name,
                "task": self.task,
                "args": self.args,
                "kwargs": self.kwargs,
                "options": self.options,
                "schedule": self.schedule,
                "enabled": self.enabled,
            },
            cls=_Encoder,
        )

    @property
    def meta(self) -> str:
        """The field of this name in Redis."""
        known = {"last_run_at": self.last_run_at, "total_run_count": self.total_run_count}
        return json.dumps(known, cls=_Encoder)

    @property
    def fire(self) -> Fire | None:
        """What it fires next; None: nothing."""
        found: Fire | None = self.schedule.next(self.last_run_at)
        return found

    @property
    def due_at(self) -> datetime | None:
        fire = self.fire
        return fire.due if fire is not None else None

    @property
    def score(self) -> float:
        """Seconds since 1970, with their fraction; RedBeat passes by what is below zero."""
        due = self.due_at
        return due.timestamp() if due is not None else -1.0

    def advance(self, now: datetime) -> None:
        """What is due by `now` is announced: the ledger decides all of it at once.

        A fire whose jitter is not over is still to come, so it goes back by the jitter, though not before this one.
        """
        fire = self.fire
        if fire is not None:
            self.last_run_at = max(fire.scheduled, now - self.schedule.timing.jitter)
            self.total_run_count += 1

    def save(self) -> Self:
        """For those who use RedBeat by hand; the beat itself writes through its store."""
        with get_redis(self.app).pipeline() as pipe:
            pipe.hset(self.key, mapping={"definition": self.definition, "meta": self.meta})
            pipe.zadd(self.app.redbeat_conf.schedule_key, {self.key: self.score})
            pipe.execute()
        return self
