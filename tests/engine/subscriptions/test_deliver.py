"""What is due is sent: signed, again when it failed, to no endpoint that is away; at least once, whoever dies."""

import base64
import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.core.subscriptions import BREAKER, FIRST_PAUSE, LONGEST_PAUSE, SIDE_BY_SIDE, pause
from orchestrator.engine import faults
from orchestrator.engine.subscriptions import deliver, manage
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.errors import Conflict, UsageError
from orchestrator.ledger import reads
from orchestrator.webhooks.out.model import Message, Outcome, Target
from tests.engine.subscriptions.conftest import ANN, GIVE_UP, Outbox, url
from tests.support.forked import in_child
from tests.support.race import race
from tests.webhooks.listeners import Listener, Taken, listening, speaking
from tests.webhooks.test_mail import serving


def verified(secret: str, taken: Taken) -> object:
    """By the package of Standard Webhooks."""
    return Webhook(secret).verify(taken.body, taken.headers)


def test_a_healthy_endpoint_gets_each_once_signed(outbox: Outbox, endpoint: Listener) -> None:
    secret = outbox.subscribe("crm", url(endpoint)).secret
    assert secret is not None
    made = [outbox.finish() for _ in range(3)]
    outbox.feed()
    assert outbox.send() == ["delivered"] * 3
    assert outbox.send() == []
    told = [verified(secret, taken) for taken in endpoint.taken]
    assert sorted(one["data"]["run_id"] for one in told if isinstance(one, dict)) == sorted(made)
    assert {one["type"] for one in told if isinstance(one, dict)} == {"run.succeeded"}
    assert len({taken.headers["webhook-id"] for taken in endpoint.taken}) == 3
    first = reads.notifications.get(outbox.lab.ledger, outbox.rows()[0].id)
    assert [(one.attempt, one.status, one.error) for one in first.attempts] == [(1, 200, None)]


def test_another_secret_or_body_is_not_verified(outbox: Outbox, endpoint: Listener) -> None:
    """The test of the test."""
    secret = outbox.subscribe("crm", url(endpoint)).secret
    assert secret is not None
    outbox.finish()
    outbox.feed()
    outbox.send()
    (taken,) = endpoint.taken
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(taken.body + b" ", taken.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(taken.body, taken.headers)


def test_after_a_rotation_both_secrets_sign_and_then_the_new_one(outbox: Outbox, endpoint: Listener) -> None:
    old = outbox.subscribe("crm", url(endpoint)).secret
    new = manage.rotate(outbox.lab.ledger, "crm", outbox.post.keyring, ANN, overlap=timedelta(hours=1)).secret
    assert old is not None
    assert new is not None
    assert old != new
    for wait in (0, 3601):
        outbox.lab.forward(wait)
        outbox.finish()
        outbox.feed()
        outbox.send()
    first, second = endpoint.taken
    assert verified(old, first) == verified(new, first)
    verified(new, second)
    with pytest.raises(WebhookVerificationError):
        verified(old, second)


def test_a_secret_by_reference_is_read_when_it_signs(outbox: Outbox, endpoint: Listener) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    assert outbox.subscribe("crm", url(endpoint), secret="env:HOOK").secret is None
    outbox.finish()
    outbox.feed()
    assert outbox.send() == ["pending"]
    assert outbox.rows()[0].error == "not sent: env:HOOK"
    outbox.secrets["env:HOOK"] = secret
    outbox.lab.forward(60)
    assert outbox.send() == ["delivered"]
    verified(secret, endpoint.taken[0])


def test_nothing_is_signed_by_another_signing_key(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()
    outbox.post = deliver.Post(outbox.post.send, Keyring(outbox.secrets.__getitem__, "l" * 40), outbox.post.rules)
    assert outbox.send() == ["pending"]
    assert "not the one" in (outbox.rows()[0].error or "")
    assert endpoint.taken == []


def test_without_a_signing_key_a_secret_is_given(outbox: Outbox) -> None:
    outbox.post = deliver.Post(outbox.post.send, Keyring(outbox.secrets.__getitem__), outbox.post.rules)
    with pytest.raises(UsageError, match="ORCHESTRATOR_SIGNING_KEY"):
        outbox.subscribe("crm", "https://hooks.example.com/")
    outbox.subscribe("crm", "https://hooks.example.com/", secret="file:/run/secrets/hook")


def test_the_output_is_told_where_it_is_asked_for(outbox: Outbox, endpoint: Listener) -> None:
    secret = outbox.subscribe("crm", url(endpoint), include=["output"]).secret
    assert secret is not None
    outbox.finish()
    outbox.feed()
    outbox.send()
    told = verified(secret, endpoint.taken[0])
    assert isinstance(told, dict)
    assert "output" in told["data"]


def test_slack_is_sent_as_slack_reads_it(outbox: Outbox, endpoint: Listener) -> None:
    outbox.secrets["env:SLACK"] = url(endpoint)
    outbox.subscribe("ops", "env:SLACK", ["run.failed"], kind="slack")
    outbox.lab.do_fail(outbox.lab.start(), "a")
    outbox.feed()
    assert outbox.send() == ["delivered"]
    assert "text" in json.loads(endpoint.taken[0].body)
    assert "webhook-signature" not in endpoint.taken[0].headers


def test_an_approval_is_mailed_to_whom_it_concerns(outbox: Outbox) -> None:
    outbox.subscribe("boss", "boss@example.com", ["approval.asked"], kind="email")
    ask = {"approval": {"title": "Ship it?", "to": "boss"}}
    run_id = outbox.lab.run({"ship": ask}, name="asks")
    outbox.feed()
    with serving() as (box, server):
        outbox.post = replace(outbox.post, mail=server)
        assert outbox.send() == ["delivered"]
    mail = box.mail()
    assert mail["To"] == "boss@example.com"
    assert str(run_id) in mail.get_content()
    assert outbox.rows()[0].status == 250


# ---- what fails ----


def test_a_failure_is_tried_again_later_each_time(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()
    endpoint.status = 500
    for tries in range(1, 4):
        assert outbox.send() == ["pending"]
        assert outbox.send() == [], "it is not due yet"
        (row,) = outbox.rows()
        assert (row.tries, row.status, row.state) == (tries, 500, "pending")
        wait = row.due_at - outbox.lab.now()
        assert pause(tries, 0) - timedelta(seconds=5) < wait <= pause(tries, 1)
        outbox.lab.forward(wait)
    endpoint.status = 204
    assert outbox.send() == ["delivered"]
    assert len({taken.headers["webhook-id"] for taken in endpoint.taken}) == 1
    log = reads.notifications.get(outbox.lab.ledger, row.id).attempts
    assert [(one.attempt, one.status) for one in log] == [(1, 500), (2, 500), (3, 500), (4, 204)]


def test_pauses_grow_to_an_end() -> None:
    pauses = [pause(tries, 0.5) for tries in range(1, 50)]
    assert pauses[0] == FIRST_PAUSE
    assert all(a <= b for a, b in pairwise(pauses))
    assert pauses[-1] == LONGEST_PAUSE
    assert pause(50, 1) == LONGEST_PAUSE * 1.2


def test_what_is_not_taken_for_long_is_dead_and_redriven(outbox: Outbox, endpoint: Listener) -> None:
    secret = outbox.subscribe("crm", url(endpoint)).secret
    outbox.finish()
    outbox.feed()
    endpoint.status = 500
    states = []
    for _ in range(60):
        states += outbox.send()
        if states[-1] == "dead":
            break
        outbox.lab.forward(timedelta(hours=8))
    assert Counter(states) == {"pending": len(states) - 1, "dead": 1}
    assert 8 <= len(states) <= 12, "three days, by eight hours"
    (row,) = outbox.rows()
    assert outbox.send() == []
    endpoint.status = 200
    assert manage.redrive(outbox.lab.ledger, ANN, GIVE_UP, ids=[row.id]) == [row.id]
    outbox.lab.forward(60)
    assert outbox.send() == ["delivered"]
    assert secret is not None
    verified(secret, endpoint.taken[-1])
    assert len({taken.headers["webhook-id"] for taken in endpoint.taken}) == 1
    with pytest.raises(Conflict, match="not dead"):
        manage.redrive(outbox.lab.ledger, ANN, GIVE_UP, ids=[row.id])


def test_an_endpoint_that_is_gone_is_told_nothing_more(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.finish()
    outbox.feed()
    endpoint.status = 410
    assert outbox.send(limit=1) == ["dead"]
    row = manage.get(outbox.lab.ledger, "crm")
    assert (row.enabled, row.why_disabled) == (False, "the endpoint answered 410 Gone")
    assert outbox.send() == []
    endpoint.status = 200
    manage.update(outbox.lab.ledger, "crm", {}, ANN, enabled=True)
    assert outbox.send() == ["delivered"], "what was due is sent"


def test_redirects_are_not_followed(outbox: Outbox, endpoint: Listener) -> None:
    with listening() as other:
        endpoint.status, endpoint.answer_headers = 302, {"Location": url(other)}
        outbox.subscribe("crm", url(endpoint))
        outbox.finish()
        outbox.feed()
        assert outbox.send() == ["pending"]
        assert other.taken == []
    assert "redirect" in (outbox.rows()[0].error or "")


def test_one_that_asks_for_time_gets_it(outbox: Outbox, endpoint: Listener) -> None:
    endpoint.status, endpoint.answer_headers = 503, {"Retry-After": "3600"}
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()
    outbox.send()
    assert outbox.rows()[0].due_at - outbox.lab.now() > timedelta(minutes=59)


def test_one_that_closes_is_tried_again(outbox: Outbox) -> None:
    def close(connection: socket.socket) -> None:
        connection.recv(10)

    with speaking(close) as port:
        outbox.subscribe("crm", f"http://127.0.0.1:{port}/")
        outbox.finish()
        outbox.feed()
        assert outbox.send() == ["pending"]
    assert outbox.rows()[0].status is None


def test_an_address_that_is_refused_is_not_asked(outbox: Outbox) -> None:
    outbox.subscribe("crm", "http://10.0.0.1/latest")
    outbox.finish()
    outbox.feed()
    assert outbox.send() == ["dead"]
    assert outbox.rows()[0].status is None


# ---- the breaker ----


def fails(outbox: Outbox, endpoint: Listener, count: int = BREAKER) -> None:
    """An endpoint with that many failures in a row, and as much that is due."""
    outbox.subscribe("crm", url(endpoint))
    for _ in range(count + 3):
        outbox.finish()
    outbox.feed()
    endpoint.status = 500
    for _ in range(count):
        assert outbox.send(limit=1) == ["pending"]


def test_after_five_failures_an_endpoint_is_left_alone_for_a_minute(outbox: Outbox, endpoint: Listener) -> None:
    fails(outbox, endpoint)
    assert manage.get(outbox.lab.ledger, "crm").breaker == "open"
    assert outbox.send() == []
    outbox.lab.forward(61)
    assert manage.get(outbox.lab.ledger, "crm").breaker == "half_open"
    assert outbox.send() == ["pending"], "one tries it"
    assert outbox.send() == [], "and it is left alone again"
    outbox.lab.forward(61)
    endpoint.status = 200
    assert outbox.send() == ["delivered"]
    assert manage.get(outbox.lab.ledger, "crm").breaker == "closed"
    assert len(outbox.send()) == SIDE_BY_SIDE, "the rest follows"


def test_a_success_in_between_counts_from_the_beginning(outbox: Outbox, endpoint: Listener) -> None:
    fails(outbox, endpoint, BREAKER - 1)
    endpoint.status = 200
    assert outbox.send(limit=1) == ["delivered"]
    assert manage.get(outbox.lab.ledger, "crm").failures == 0


def test_another_endpoint_is_not_concerned(outbox: Outbox, endpoint: Listener) -> None:
    fails(outbox, endpoint)
    with listening() as other:
        outbox.subscribe("shop", url(other))
        outbox.finish()
        outbox.feed()
        assert outbox.send() == ["delivered"]


def test_one_tries_it_whoever_asks(outbox: Outbox, endpoint: Listener) -> None:
    """Processes that look at the same moment; the row decides."""
    fails(outbox, endpoint)
    outbox.lab.forward(61)
    found = race(*[lambda: deliver.claim(outbox.lab.ledger, 10)] * 6)
    assert sum(len(one) for one in found) == 1


def test_the_breaker_holds_in_another_process(outbox: Outbox, endpoint: Listener) -> None:
    fails(outbox, endpoint)
    asked = len(endpoint.taken)

    def elsewhere(count: int) -> int | None:
        def work() -> None:
            assert len(Outbox(outbox.lab).send()) == count

        return in_child(work)

    assert elsewhere(0) == 0
    outbox.lab.forward(61)
    assert elsewhere(1) == 0
    assert elsewhere(0) == 0
    assert outbox.send() == []
    assert len(endpoint.taken) == asked + 1


def test_a_slow_endpoint_takes_a_few_places(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("slow", url(endpoint))
    for _ in range(10):
        outbox.finish()
    outbox.feed()
    assert len(deliver.claim(outbox.lab.ledger, 100)) == 4
    assert deliver.claim(outbox.lab.ledger, 100) == []


# ---- who dies ----


@pytest.mark.parametrize(
    ("point", "times"), [("notification.claimed", 1), ("notification.sent", 2), ("notification.committed", 1)]
)
def test_a_sender_that_is_killed_leaves_it_to_others(
    outbox: Outbox, endpoint: Listener, point: str, times: int
) -> None:
    """What it had sent and not written down is sent again, with the same id, by which the receiver can tell."""
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()

    def killed() -> None:
        faults.arm(point, lambda: os.kill(os.getpid(), signal.SIGKILL))
        Outbox(outbox.lab).send()

    assert in_child(killed) == -signal.SIGKILL
    assert outbox.send() == [], "it may be under way still"
    outbox.lab.forward(61)
    outbox.send()
    assert len(endpoint.taken) == times
    assert len({taken.headers["webhook-id"] for taken in endpoint.taken}) == 1
    assert len({taken.body for taken in endpoint.taken}) == 1
    (row,) = outbox.rows()
    assert row.state == "delivered"
    assert len(reads.notifications.get(outbox.lab.ledger, row.id).attempts) == 1


def test_one_whose_claim_was_over_changes_nothing(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()
    (slow,) = deliver.claim(outbox.lab.ledger, 1)
    outbox.lab.forward(61)
    assert outbox.send() == ["delivered"]
    endpoint.status = 500
    assert deliver.deliver(outbox.lab.ledger, slow, outbox.post) is None
    (row,) = outbox.rows()
    assert row.state == "delivered"


def test_two_senders_at_once_send_each_once(outbox: Outbox, endpoint: Listener) -> None:
    outbox.subscribe("crm", url(endpoint))
    made = [outbox.finish() for _ in range(40)]
    outbox.feed()

    def work() -> None:
        idle = 0
        while idle < 20:
            idle = 0 if outbox.send(limit=3) else idle + 1
            time.sleep(0.01)

    race(work, work, work)
    told = Counter(json.loads(taken.body)["data"]["run_id"] for taken in endpoint.taken)
    assert told == dict.fromkeys(made, 1)


def test_what_a_sender_raises_is_written_down(outbox: Outbox, endpoint: Listener) -> None:
    def broken(target: Target, message: Message, secrets: object) -> Outcome:
        raise RuntimeError("no")

    outbox.subscribe("crm", url(endpoint))
    outbox.finish()
    outbox.feed()
    outbox.post = deliver.Post(broken, outbox.post.keyring, outbox.post.rules)
    assert outbox.send() == ["pending"]
    assert outbox.rows()[0].error == "not sent: RuntimeError: no"


def test_a_test_is_sent_as_one(outbox: Outbox, endpoint: Listener) -> None:
    secret = outbox.subscribe("crm", url(endpoint)).secret
    assert secret is not None
    id = manage.try_out(outbox.lab.ledger, "crm", ANN, GIVE_UP)
    assert outbox.send() == ["delivered"]
    told = verified(secret, endpoint.taken[0])
    assert isinstance(told, dict)
    assert told["type"] == "subscription.test"
    assert reads.notifications.get(outbox.lab.ledger, id).state == "delivered"
