"""The trace that a request belongs to, as W3C's Trace Context has it in headers, and the ids of a run's spans.

These follow from what the ledger holds, so whichever process commits the end of something can tell of it in one span,
whose id all others know: nothing is kept open, and nothing is passed on but what stands with the run.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
NAMES: Final = ("traceparent", "tracestate")


def of_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """`traceparent`, and `tracestate` if there is one; nothing where the first is not valid: whoever cannot read it
    begins a trace of their own."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.lower() in NAMES:
            found.setdefault(name.lower(), []).append(value.strip())
    parents = found.get("traceparent", [])
    if len(parents) != 1 or not _is_valid(parents[0]):
        return {}
    state = ",".join(found.get("tracestate", []))
    return {"traceparent": parents[0], **({"tracestate": state} if _STATE.fullmatch(state) else {})}


def as_json(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> str | None:
    """The same as JSON; None: there is none."""
    found = of_headers(headers)
    return json.dumps(found) if found else None


def _is_valid(parent: str) -> bool:
    """A version that is not known yet may have more behind; ours has not."""
    found = _PARENT.fullmatch(parent)
    if found is None or len(parent) > 512:
        return False
    version, trace, span, _, more = found.groups()
    return version != "ff" and set(trace) != {"0"} and set(span) != {"0"} and (version != "00" or more is None)


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a run: its own, whose id is the run's, or that of the request or the step that started it."""

    run_id: UUID
    trace_id: int
    parent: int | None = None
    """The span of whoever started it; None: its root has none above it."""
    sampled: bool | None = None
    """Whether it is recorded; None: whoever asks decides by the trace id, and everybody alike."""
    unsampled: bool = False
    """Whether the request came with a trace that is not recorded."""
    state: str = ""
    """Its `tracestate`."""
    segments: tuple[datetime, ...] = ()
    """When a later trace of the run began: after a wait that was too long for one, or when it was retried."""
    first: int = 0
    """The id of its first trace, by which it is decided whether it is recorded; 0: this is it."""

    @classmethod
    def of(cls, run_id: UUID, kept: Mapping[str, str] | None) -> "Trace":
        """From what is kept with the run: its present one."""
        trace = cls._first(run_id, kept)
        if kept and "segments" in kept:
            begun = tuple(map(datetime.fromisoformat, kept["segments"].split(",")))
            return trace._later(begun)
        return trace

    @property
    def before(self) -> "Trace | None":
        """The trace of the run before this one. Whose part the first one was is not known here."""
        if not self.segments:
            return None
        if len(self.segments) == 1:
            return replace(self, trace_id=self.first, segments=())
        return self._later(self.segments[:-1])

    def at(self, time: datetime) -> "Trace":
        """The one that the run was in then."""
        before = self.before
        return self if before is None or time > self.segments[-1] else before.at(time)

    def _later(self, segments: tuple[datetime, ...]) -> "Trace":
        digest = blake2b(f"{self.run_id}/{len(segments)}".encode(), digest_size=16).digest()
        first = self.first or self.trace_id
        return replace(self, trace_id=int.from_bytes(digest), parent=None, segments=segments, first=first, state="")

    @classmethod
    def _first(cls, run_id: UUID, kept: Mapping[str, str] | None) -> "Trace":
        own = cls(run_id, run_id.int)
        found = _PARENT.fullmatch(kept.get("traceparent", "")) if kept else None
        if kept is None or found is None:
            return own
        trace_id, span, sampled = int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1)
        if "sampling" in kept:
            return cls(run_id, trace_id, span, _SAMPLING[kept["sampling"]])
        if (trace_id, span) == (own.trace_id, own.root):
            return replace(own, sampled=sampled)
        if not sampled:
            return replace(own, unsampled=True)
        return cls(run_id, trace_id, span, True, state=kept.get("tracestate", ""))

    def decided(self, sampled: bool) -> dict[str, str]:
        """What is kept with the run, so that all who work on it agree."""
        if sampled and self.sampled:
            return _kept(self.trace_id, self.parent or self.root, True, self.state)
        own = replace(self, trace_id=self.run_id.int)
        return _kept(own.trace_id, own.root, sampled)

    def called(self, step_key: str) -> dict[str, str]:
        """What is kept with a run that a step of this one calls: it is a part of the same trace."""
        kept = _kept(self.trace_id, self.step(step_key), bool(self.sampled), self.state)
        if self.sampled:
            return kept
        return {**kept, "sampling": "open" if self.sampled is None and not self.unsampled else "no"}

    @property
    def root(self) -> int:
        """The span of the run."""
        return self._id()

    @property
    def received(self) -> int:
        """The span of the webhook's delivery that started it."""
        return self._id("", "received")

    def step(self, step_key: str) -> int:
        """The span of a step."""
        return self._id(step_key)

    def claim(self, step_key: str, fence: int) -> int:
        """The span of what a worker did with one claim: an attempt, or a poll."""
        return self._id(step_key, f"{fence}")

    def further(self, step_key: str, what: str) -> int:
        """Another span of a step."""
        return self._id(step_key, what, "")

    def _id(self, *of: str) -> int:
        text = f"{self.trace_id:x}/{self.run_id}/{'/'.join(of)}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1


_SAMPLING: Final[Mapping[str, bool | None]] = {"open": None, "no": False}


def parent_of(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """A `traceparent`."""
    return f"00-{trace_id:032x}-{span_id:016x}-{sampled:02x}"


def _kept(trace_id: int, span: int, sampled: bool, state: str = "") -> dict[str, str]:
    parent = {"traceparent": parent_of(trace_id, span, sampled=sampled)}
    return {**parent, "tracestate": state} if state else parent


def spread(trace_id: int) -> int:
    """For samplers that compare 64 bits of a trace id with their ratio: the first two of those of a UUID never change,
    so that a ratio under a half would record nothing, and one over three quarters everything."""
    return int.from_bytes(blake2b(trace_id.to_bytes(16), digest_size=16).digest())


def tick(flow: str, schedule: str, at: datetime) -> tuple[int, int]:
    """The trace and the span in which it was decided what a schedule starts for this time."""
    text = f"{flow}/{schedule}/{at.timestamp()}"
    found = blake2b(text.encode(), digest_size=24).digest()
    return int.from_bytes(found[:16]), int.from_bytes(found[16:])
