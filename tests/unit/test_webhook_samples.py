"""What `webhook test` sends is what the schemes take."""

from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.webhooks import samples
from orchestrator.webhooks.gates import Door, Gate, Secrets, judge
from orchestrator.webhooks.schemes import scheme_of
from tests.support.deliveries import EVENT, NOW, SAMPLES, URL


@pytest.mark.parametrize("body", [EVENT, samples.BODY], ids=["event", "default"])
@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_a_sample_of_each_scheme_passes_its_gates(make: Any, body: bytes) -> None:
    trigger, secret = make().trigger, make().secret
    request = samples.signed(scheme_of(trigger), secret, body, URL, NOW, "test-1")
    judged = judge(Door.of("it", trigger), request, Secrets(secret), NOW)
    assert judged.refusal is None
    assert judge(Door.of("it", trigger), request, Secrets("another" * 4), NOW).refusal is not None


def test_a_sample_without_room_for_what_its_scheme_needs_is_refused() -> None:
    made = SAMPLES["mailgun"]()
    for body in (b"[]", b"no json", b'{"signature": 5}'):
        with pytest.raises(UsageError):
            samples.signed(scheme_of(made.trigger), made.secret, body, URL, NOW, "test-1")


def test_the_id_of_an_event_is_left_as_it_is() -> None:
    made = SAMPLES["stripe"]()
    assert samples.signed(scheme_of(made.trigger), made.secret, EVENT, URL, NOW, "test-1").json()["id"] == "evt_1"


def test_the_gate_of_a_late_sample_is_the_replay() -> None:
    from datetime import timedelta

    made = SAMPLES["slack"]()
    request = samples.signed(scheme_of(made.trigger), made.secret, EVENT, URL, NOW, "test-1")
    judged = judge(Door.of("it", made.trigger), request, Secrets(made.secret), NOW + timedelta(hours=1))
    assert judged.refusal is not None
    assert judged.refusal.gate is Gate.REPLAY
