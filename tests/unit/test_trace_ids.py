"""The ids of a run's spans, and who decides whether it is recorded."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from orchestrator.core.trace import Trace, spread

RUN = UUID("01a2298f-9a09-71fa-b62d-a22a79f7ee87")
CAME = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "x=1"}
UNSAMPLED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}


def test_a_run_that_nobody_traced_has_its_id_as_its_trace() -> None:
    trace = Trace.of(RUN, None)
    assert (trace.trace_id, trace.parent, trace.sampled) == (RUN.int, None, None)


def test_a_request_that_is_recorded_is_above_the_run() -> None:
    trace = Trace.of(RUN, CAME)
    assert (f"{trace.trace_id:x}", f"{trace.parent:x}", trace.sampled) == ("a" * 32, "b" * 16, True)
    assert trace.decided(True) == CAME


def test_a_request_that_is_not_recorded_is_not() -> None:
    """Whoever asks for it all the same has the run's own trace."""
    trace = Trace.of(RUN, UNSAMPLED)
    assert (trace.trace_id, trace.parent, trace.sampled, trace.unsampled) == (RUN.int, None, None, True)


def test_what_was_decided_is_kept() -> None:
    for kept in (None, UNSAMPLED):
        for sampled in (True, False):
            trace = Trace.of(RUN, Trace.of(RUN, kept).decided(sampled))
            assert (trace.trace_id, trace.parent, trace.sampled) == (RUN.int, None, sampled)
    assert Trace.of(RUN, Trace.of(RUN, CAME).decided(False)).sampled is False


def test_a_run_that_a_step_calls_is_in_the_same_trace() -> None:
    child = uuid7()
    for kept, sampled in ((CAME, True), (None, None), (UNSAMPLED, False), (Trace.of(RUN, None).decided(False), False)):
        caller = Trace.of(RUN, kept)
        called = Trace.of(child, caller.called("sub"))
        assert (called.trace_id, called.parent, called.sampled) == (caller.trace_id, caller.step("sub"), sampled)
        grandchild = Trace.of(uuid7(), called.called("deep"))
        assert (grandchild.trace_id, grandchild.sampled) == (caller.trace_id, sampled)


def test_every_span_has_an_id_of_its_own() -> None:
    trace, other = Trace.of(RUN, CAME), Trace.of(uuid7(), CAME)
    ids = [
        of
        for one in (trace, other)
        for of in (
            one.root,
            one.step("a"),
            one.step("b"),
            one.claim("a", 1),
            one.claim("a", 2),
            one.further("a", "when"),
        )
    ]
    assert len(set(ids)) == len(ids)
    assert all(0 < one < 2**64 for one in ids)


def test_ratios_see_ids_that_are_spread() -> None:
    """64 bits of a UUID begin with its variant, so that a sampler would take none of them below a half."""
    ids = [uuid7().int for _ in range(2000)]
    assert not any(one % 2**64 < 2**62 for one in ids)
    assert 300 < sum(spread(one) % 2**64 < 2**62 for one in ids) < 700


def test_a_run_that_goes_on_much_later_has_another_trace() -> None:
    """Everybody finds both; it is recorded if the first one is, and so is what it calls from then on."""
    first, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    trace = Trace.of(RUN, {**CAME, "segments": f"{first.isoformat()},{later.isoformat()}"})
    assert (trace.parent, trace.sampled, trace.segments) == (None, True, (first, later))
    assert trace.before == Trace.of(RUN, {**CAME, "segments": first.isoformat()})
    assert trace.before is not None
    assert trace.before.before is not None
    assert f"{trace.before.before.trace_id:x}" == "a" * 32
    assert len({trace.trace_id, trace.before.trace_id, trace.before.before.trace_id, RUN.int}) == 4
    assert trace.at(later + timedelta(seconds=1)) is trace
    assert trace.at(later) == trace.before
    assert trace.at(first).trace_id == int("a" * 32, 16)
    assert Trace.of(uuid7(), trace.called("sub")).trace_id == trace.trace_id
