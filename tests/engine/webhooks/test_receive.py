"""What becomes of a delivery: a run, the run that there is already, or nothing; and what is kept of it."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from psycopg import errors as pg
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.manifest import Manifest
from orchestrator.engine import faults
from orchestrator.engine.flows import delete_flow, register, switch
from orchestrator.engine.webhooks.arrival import Received
from orchestrator.engine.webhooks.replay import replay
from orchestrator.errors import (
    Conflict,
    DeliveryConflict,
    DeliveryRefused,
    FlowDisabled,
    IdempotencyConflict,
    InputInvalid,
    ManifestInvalid,
    RunNotFound,
    WebhookNotFound,
    WebhookUnreadable,
)
from orchestrator.webhooks.request import Request
from tests.edge.signing import MANNERS
from tests.engine.webhooks.conftest import FLOW, Publisher
from tests.support.deliveries import EVENT, KEY, SAMPLES, URL, compact, hexed
from tests.support.factories import Lab, after, call

CLOSED = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False}


# ---- accepted --------------------------------------------------------------------------------------------------


def test_a_delivery_starts_a_run_with_its_body_and_its_headers(publisher: Publisher) -> None:
    publisher.flow()
    received = publisher.call(publisher.request(X_Topic="paid", Authorization="Bearer x"))
    assert (received.outcome, received.status) == ("started", 202)
    assert received.run_id is not None
    row = publisher.lab.run_row(received.run_id)
    assert (row["trigger_type"], row["trigger_key"], row["trigger_body"]) == ("webhook", "hook", json.loads(EVENT))
    assert row["trigger_headers"]["x-topic"] == "paid"
    assert not {"authorization", "x-webhook-signature"} & row["trigger_headers"].keys()
    assert [dispatch.step_key for dispatch in received.dispatches] == ["work"]
    publisher.lab.drain(received.run_id)


def test_the_payload_is_mapped_to_the_input_and_checked_before_anything_is_accepted(publisher: Publisher) -> None:
    publisher.flow(schema=CLOSED, input={"id": "@triggerBody()?.id"})
    assert publisher.post({"id": "evt_1", "more": 5}).outcome == "started"
    refused = publisher.post({"id": 7})
    assert (refused.outcome, refused.status) == ("refused", 422)
    with pytest.raises(InputInvalid):
        refused.accepted()
    assert len(publisher.runs()) == 1


def test_the_same_delivery_again_is_answered_with_its_run(publisher: Publisher) -> None:
    publisher.flow()
    request = publisher.request(X_Webhook_Id="d-1")
    first, again, signed_anew = publisher.call(request), publisher.call(request), publisher.call()
    assert [(one.outcome, one.status) for one in (first, again, signed_anew)] == [
        ("started", 202),
        ("seen", 200),
        ("seen", 200),
    ]
    assert {first.run_id, again.run_id, signed_anew.run_id} == {first.run_id}
    assert publisher.runs() == [first.run_id]


def test_an_id_that_comes_with_another_body_is_a_conflict(publisher: Publisher) -> None:
    publisher.flow()
    publisher.post({"id": "evt_1"}, X_Webhook_Id="d-1")
    refused = publisher.post({"id": "evt_2"}, X_Webhook_Id="d-1")
    assert (refused.outcome, refused.status) == ("refused", 409)
    with pytest.raises(DeliveryConflict):
        refused.accepted()
    assert publisher.post({"id": "evt_2"}, X_Webhook_Id="d-2").outcome == "started"


def test_a_delivery_is_forgotten_in_time(publisher: Publisher) -> None:
    publisher.flow(remember="1h")
    first = publisher.call()
    publisher.lab.forward(timedelta(hours=1, seconds=1))
    again = publisher.call()
    assert (again.outcome, again.run_id != first.run_id) == ("started", True)


def test_an_old_delivery_is_refused_however_long_it_is_remembered(publisher: Publisher) -> None:
    publisher.flow()
    request = publisher.request()
    publisher.lab.forward(timedelta(minutes=5, seconds=2))
    refused = publisher.call(request)
    assert (refused.status, publisher.kept()[0]["gate"]) == (401, "replay")


def test_two_servers_that_get_one_delivery_start_one_run(publisher: Publisher) -> None:
    """Each on its own connection, at the same moment, twenty times."""
    publisher.flow()
    for number in range(20):
        request = publisher.request(compact({"id": f"evt_{number}"}), X_Webhook_Id=f"d-{number}")
        received = publisher.lab.race(*[partial(publisher.call, request)] * 2)
        assert sorted(one.outcome for one in received) == ["seen", "started"], received
        assert len({one.run_id for one in received}) == 1
    assert len(publisher.runs()) == 20
    assert len(publisher.kept()) == 40


def test_one_of_two_bodies_with_one_id_is_taken(publisher: Publisher) -> None:
    publisher.flow()
    for number in range(10):
        bodies = [compact({"id": f"{name}{number}"}) for name in "ab"]
        calls = [partial(publisher.call, publisher.request(body, X_Webhook_Id=f"d-{number}")) for body in bodies]
        assert sorted(one.outcome for one in publisher.lab.race(*calls)) == ["refused", "started"]
    assert len(publisher.runs()) == 10


# ---- idempotency keys ------------------------------------------------------------------------------------------


def test_a_key_of_the_publisher_stands_for_one_run(publisher: Publisher) -> None:
    """By an expression, or by the header; a later delivery of the same key and input is answered with the first run."""
    publisher.flow(idempotency_key="@triggerBody().order", input={"id": "@triggerBody().order"})
    first = publisher.post({"order": "o-1", "try": 1})
    again = publisher.post({"order": "o-1", "try": 2})
    assert (again.outcome, again.run_id) == ("seen", first.run_id)
    rows = publisher.lab.rows("SELECT run_id FROM flow_webhook_nonces")
    assert [row["run_id"] for row in rows] == [first.run_id] * 2


def test_a_key_of_another_input_is_a_conflict(publisher: Publisher) -> None:
    publisher.flow()
    assert publisher.post({"id": "evt_1"}, Idempotency_Key="k").outcome == "started"
    refused = publisher.post({"id": "evt_2"}, Idempotency_Key='"k"')
    assert (refused.status, publisher.kept()[-1]["gate"]) == (422, "idempotency")
    with pytest.raises(IdempotencyConflict):
        refused.accepted()
    # nothing of it is remembered: under another key it is taken
    assert publisher.post({"id": "evt_2"}, Idempotency_Key="k2").outcome == "started"


# ---- refused ---------------------------------------------------------------------------------------------------


def test_a_forged_delivery_starts_nothing_and_is_kept_with_the_reason(publisher: Publisher) -> None:
    publisher.flow()
    refused = publisher.call(publisher.request(key="a guess"))
    assert (refused.outcome, refused.status, publisher.runs()) == ("refused", 401, [])
    with pytest.raises(DeliveryRefused) as caught:
        refused.accepted()
    assert "key" not in caught.value.message
    (kept,) = publisher.kept()
    assert (kept["outcome"], kept["gate"], kept["why"]) == ("refused", "signature", "no key of ours made its signature")
    assert kept["verdicts"] == [
        {"gate": "address", "passed": True, "why": ""},
        {"gate": "size", "passed": True, "why": ""},
        {"gate": "signature", "passed": False, "why": "no key of ours made its signature"},
    ]


@pytest.mark.parametrize(
    ("webhook", "request_", "gate", "status"),
    [
        ({"addresses": ["10.0.0.0/8"]}, {}, "address", 403),
        ({"addresses": ["10.0.0.0/8"]}, {"address": None}, "address", 403),
        ({"max_body": 5}, {}, "size", 413),
        ({"secret": "env:NOT_SET"}, {}, "signature", 503),
        ({}, {"body": b"no json"}, "start", 400),
        ({"signal": "paid", "run": "@triggerBody().id"}, {}, "start", 404),
    ],
)
def test_each_gate_refuses_and_is_named(
    publisher: Publisher, webhook: dict[str, Any], request_: dict[str, Any], gate: str, status: int
) -> None:
    publisher.flow(**webhook)
    refused = publisher.call(publisher.request(**request_))
    assert (refused.status, publisher.kept()[0]["gate"], publisher.runs()) == (status, gate, [])


def test_an_address_is_asked_before_the_signature(publisher: Publisher) -> None:
    publisher.flow(addresses=["10.0.0.0/8"], max_body=5)
    publisher.call(publisher.request(key="a guess"))
    assert [one["gate"] for one in publisher.kept()[0]["verdicts"]] == ["address"]


def test_a_disabled_flow_takes_no_delivery_until_it_is_enabled(publisher: Publisher) -> None:
    publisher.flow()
    switch.disable(publisher.lab.ledger, "orders", "ops", "broken")
    request = publisher.request()
    with pytest.raises(FlowDisabled):
        publisher.call(request).accepted()
    switch.enable(publisher.lab.ledger, "orders", "ops")
    assert publisher.call(request).outcome == "started"


def test_an_unknown_slug_is_not_found(publisher: Publisher) -> None:
    with pytest.raises(WebhookNotFound):
        publisher.call(slug="nobody")


# ---- when the database fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["webhook.judged", "webhook.kept"])
def test_a_delivery_that_was_not_stored_may_come_again(publisher: Publisher, point: str) -> None:
    """Nonce, run and delivery are one commit: what failed half-way left nothing."""
    publisher.flow()
    request = publisher.request(X_Webhook_Id="d-1")

    def fail() -> None:
        raise pg.AdminShutdown("terminating connection")

    faults.arm(point, fail)
    with pytest.raises((pg.Error, SQLAlchemyError)):
        publisher.call(request)
    faults.disarm()
    assert (publisher.runs(), publisher.kept()) == ([], [])
    assert publisher.call(request).outcome == "started"


def test_a_delivery_whose_answer_was_lost_is_known(publisher: Publisher) -> None:
    publisher.flow()

    def fail() -> None:
        raise ConnectionResetError

    faults.arm("webhook.committed", fail)
    with pytest.raises(ConnectionResetError):
        publisher.call(publisher.request())
    faults.disarm()
    assert publisher.call().outcome == "seen"
    assert len(publisher.runs()) == 1


# ---- modes -----------------------------------------------------------------------------------------------------


def test_audit_accepts_and_keeps_what_it_would_refuse(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    publisher.flow(mode="audit", addresses=["10.0.0.0/8"])
    with caplog.at_level(logging.INFO, "orchestrator"):
        received = publisher.call(publisher.request(key="a guess"))
    assert received.outcome == "started"
    (kept,) = publisher.kept()
    assert (kept["mode"], kept["outcome"], kept["gate"]) == ("audit", "started", "address")
    assert {one["gate"]: one["passed"] for one in kept["verdicts"]} == {
        "address": False,
        "size": True,
        "signature": False,
        "rate": True,
    }
    would = [record.code for record in caplog.records if record.message == "webhook.would_refuse"]  # type: ignore[attr-defined]
    assert would == [4005, 4001]


def test_audit_remembers_nothing_that_nobody_signed(publisher: Publisher) -> None:
    """Else a forged delivery would keep the true one of the same id out."""
    publisher.flow(mode="audit")
    forged = publisher.call(publisher.request(key="a guess", X_Webhook_Id="d-1"))
    true = publisher.call(publisher.request(X_Webhook_Id="d-1"))
    assert (forged.outcome, true.outcome, true.run_id != forged.run_id) == ("started", "started", True)


def test_off_asks_no_gate(publisher: Publisher) -> None:
    publisher.flow(mode="off", secret="env:NOT_SET")
    assert publisher.call(Request.of(EVENT)).outcome == "started"
    assert publisher.kept()[0]["verdicts"] == []


def test_the_mode_of_all_counts_where_a_webhook_has_none(publisher: Publisher) -> None:
    publisher.flow()
    publisher.flow("strict", "other", mode="enforce")
    publisher.mode = "audit"
    assert publisher.call(Request.of(EVENT)).outcome == "started"
    assert publisher.call(Request.of(EVENT), "other").outcome == "refused"


# ---- rates -----------------------------------------------------------------------------------------------------


def test_too_many_are_told_when_to_come_again(publisher: Publisher) -> None:
    publisher.flow(rate={"limit": 2})
    outcomes = [publisher.post({"id": str(number)}).outcome for number in range(3)]
    assert outcomes == ["started", "started", "refused"]
    with pytest.raises(DeliveryRefused) as caught:
        publisher.post({"id": "4"}).accepted()
    assert (caught.value.status, caught.value.retry_after_s) == (429, 7)


def test_a_rate_by_address_counts_each(publisher: Publisher) -> None:
    publisher.flow(rate={"limit": 1, "by": "address"})
    for address, expected in (("192.0.2.1", 202), ("192.0.2.2", 202), ("192.0.2.1", 429)):
        request = publisher.request(compact({"id": uuid4().hex}), address=address)
        assert publisher.call(request).status == expected


def test_a_flood_that_nobody_signed_keeps_no_publisher_out(publisher: Publisher) -> None:
    """It has a share of its own, and beyond that only its count is kept."""
    publisher.flow(rate={"limit": 5})
    statuses = [publisher.call(publisher.request(key="a guess")).status for _ in range(130)]
    assert statuses == [401] * 120 + [429] * 10
    assert publisher.call().outcome == "started"
    counted = [row for row in publisher.kept() if row["count"] > 1]
    assert sum(row["count"] for row in publisher.kept() if row["gate"] == "rate") == 10
    assert all(row["raw"] is None and row["body"] is None for row in counted)
    assert len(publisher.kept()) <= 120 + 2 + 1  # the flood may go over a minute's end


# ---- secrets and rotation --------------------------------------------------------------------------------------


def test_the_previous_key_is_taken_and_logged(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    publisher.flow(previous_secret="env:OLD")
    with caplog.at_level(logging.INFO, "orchestrator"):
        assert publisher.call(publisher.request(key="the key before")).outcome == "started"
    codes = [record.code for record in caplog.records if hasattr(record, "code")]
    assert codes == [4000, 4007, 4010]
    assert publisher.kept()[0]["previous_key"]


def test_no_secret_is_kept_or_logged(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    """Of the key, the signature, the headers that authorize, and the fields that are secret by their names."""
    publisher.flow(previous_secret="env:OLD")
    with caplog.at_level(logging.DEBUG):
        for key in (None, "a guess"):
            request = publisher.request(
                compact({"id": uuid4().hex, "password": "hunter2"}), **({} if key is None else {"key": key}),
                Cookie="sid=hunter2", X_Api_Key="hunter2", Authorization="hunter2",
            )  # fmt: skip
            publisher.call(request)
    shown = [{name: value for name, value in row.items() if name != "raw"} for row in publisher.kept()]
    text = json.dumps(shown, default=str) + caplog.text + str([vars(record) for record in caplog.records])
    for secret in ("hunter2", publisher.secrets["env:SECRET"], publisher.secrets["env:OLD"], "sha256="):
        assert secret not in text
    raw = publisher.kept()[1]["raw"].decode()
    assert "cookie" not in raw
    assert "x-api-key" not in raw


# ---- signals ---------------------------------------------------------------------------------------------------


def waiting(lab: Lab) -> Any:
    lab.flow({"paid": {"signal": {"name": "paid"}}, "ship": after("paid")}, "shop")
    return lab.start("shop")


def test_a_delivery_is_a_signal_to_the_run_that_it_names(publisher: Publisher) -> None:
    run_id = waiting(publisher.lab)
    publisher.flow(signal="paid", run="@triggerBody().run", input={"amount": "@triggerBody().amount"})
    received = publisher.post({"run": str(run_id), "amount": 5})
    assert (received.outcome, received.run_id, received.status) == ("signalled", run_id, 202)
    assert publisher.lab.statuses(run_id)["paid"] == "succeeded"
    assert [dispatch.step_key for dispatch in received.dispatches] == ["ship"]
    again = publisher.post({"run": str(run_id), "amount": 5})
    assert (again.outcome, again.run_id) == ("seen", run_id)
    (row,) = publisher.lab.rows("SELECT by, payload FROM flow_signals")
    assert (row["by"], row["payload"]) == ("webhook hook", {"amount": 5})


def test_a_search_attribute_names_the_run(publisher: Publisher) -> None:
    """Of those that are open; none and several are refused, and nothing is remembered of it."""
    schema = {"type": "object", "properties": {"order": {"type": ["string", "integer"]}}}
    hook = {"type": "webhook", "scheme": "generic", "secret": "env:SECRET", "signal": "paid", "search": "order"}
    steps = {"paid": {"signal": {"name": "paid"}}, "ship": after("paid")}
    triggers = {"manual": {}, "hook": {**hook, "run": "@triggerBody().order"}}
    publisher.lab.flow(steps, "shop", input_schema=schema, search=["order"], triggers=triggers)
    by_number, by_text, other = [publisher.lab.start("shop", {"order": order}) for order in (7, "o-8", "o-9")]
    for order, run_id in ((7, by_number), ("o-8", by_text)):
        received = publisher.post({"order": order})
        assert (received.outcome, received.run_id) == ("signalled", run_id)
        assert publisher.lab.statuses(run_id)["paid"] == "succeeded"
    assert publisher.lab.statuses(other)["paid"] == "waiting"
    none = publisher.post({"order": "o-10"})
    assert (none.outcome, none.status) == ("refused", 404)
    publisher.lab.start("shop", {"order": "o-10"})
    assert publisher.post({"order": "o-10"}).outcome == "signalled"
    publisher.lab.start("shop", {"order": "o-9"})
    assert publisher.post({"order": "o-9"}).status == 409
    with pytest.raises(ManifestInvalid, match="has no search attribute"):
        publisher.lab.flow(steps, "shop2", triggers={"two": {**hook, "run": "@triggerBody().order"}})


def test_a_signal_that_was_taken_is_known_when_its_run_has_ended(publisher: Publisher) -> None:
    """Its first answer was lost. The publisher is told of the run that took it, also when another has its attribute."""
    schema = {"type": "object", "properties": {"order": {"type": "string"}}}
    hook = {"type": "webhook", "scheme": "stripe", "secret": "env:SECRET", "signal": "paid", "search": "order"}
    triggers = {"manual": {}, "hook": {**hook, "run": "@triggerBody().order"}}
    steps = {"paid": {"signal": {"name": "paid"}}}
    publisher.lab.flow(steps, "shop", input_schema=schema, search=["order"], triggers=triggers)
    run_id = publisher.lab.start("shop", {"order": "o-7"})

    def post(**more: int) -> Received:
        body = compact({"id": "evt_1", "order": "o-7", **more})
        return publisher.call(Request.of(body, MANNERS["hook-stripe"].sign("", body, KEY), url=URL))

    assert (post().outcome, publisher.lab.run_row(run_id)["status"]) == ("signalled", "succeeded")
    assert (post().status, post(pending_webhooks=1).run_id) == (200, run_id)
    publisher.lab.start("shop", {"order": "o-7"})
    assert (post().outcome, post().run_id) == ("seen", run_id)
    assert len(publisher.lab.rows("SELECT * FROM flow_signals")) == 1


@pytest.mark.parametrize("run", ["01900000-0000-7000-8000-000000000001", "no id"])
def test_a_signal_to_no_run_is_refused_and_may_come_again(publisher: Publisher, run: str) -> None:
    publisher.flow(signal="paid", run="@triggerBody().run")
    request = publisher.request(compact({"run": run}))
    for _ in range(2):
        with pytest.raises(RunNotFound):
            publisher.call(request).accepted()


def test_a_signal_that_its_run_refuses_is_kept_as_refused(publisher: Publisher) -> None:
    run_id = publisher.lab.run({"work": call()})
    publisher.flow(signal="paid", run="@triggerBody().run")
    refused = publisher.post({"run": str(run_id)})
    assert (refused.outcome, refused.status, publisher.kept()[0]["gate"]) == ("refused", 404, "start")
    assert publisher.lab.rows("SELECT * FROM flow_webhook_nonces") == []


# ---- handshakes ------------------------------------------------------------------------------------------------


def test_a_handshake_is_answered_if_it_is_signed_and_starts_nothing(publisher: Publisher) -> None:
    publisher.flow(scheme="slack")
    time, body = str(int(publisher.lab.now().timestamp())), compact({"type": "url_verification", "challenge": "3eZb"})
    proof = "v0=" + hexed(f"v0:{time}:".encode() + body)
    headers = {"X-Slack-Request-Timestamp": time, "X-Slack-Signature": proof}
    received = publisher.call(Request.of(body, headers))
    assert received.answer is not None
    assert (received.outcome, received.answer.body, publisher.runs()) == ("handshake", "3eZb", [])
    assert publisher.call(Request.of(body, {**headers, "X-Slack-Signature": proof[:-1] + "x"})).answer is None


# ---- replays ---------------------------------------------------------------------------------------------------


def test_a_delivery_that_came_while_its_secret_was_wrong_is_replayed(publisher: Publisher) -> None:
    publisher.flow()
    right = publisher.secrets.pop("env:SECRET")
    refused = publisher.call()
    publisher.lab.forward(timedelta(days=1))
    again = replay(publisher.lab.ledger, publisher.keeper, refused.id)
    assert (again.outcome, again.status) == ("refused", 503)
    publisher.secrets["env:SECRET"] = right
    done = replay(publisher.lab.ledger, publisher.keeper, refused.id)
    assert done.outcome == "started"
    first, _, last = publisher.kept()
    assert (first["replayed_at"] is not None, first["raw"], last["replay_of"]) == (True, None, refused.id)
    with pytest.raises(Conflict, match="was replayed already"):
        replay(publisher.lab.ledger, publisher.keeper, refused.id)


def test_a_replay_passes_the_gates(publisher: Publisher) -> None:
    """A forged delivery stays one, however often an operator replays it."""
    publisher.flow()
    refused = publisher.call(publisher.request(key="a guess"))
    assert replay(publisher.lab.ledger, publisher.keeper, refused.id).status == 401
    assert publisher.runs() == []


def test_a_delivery_that_was_accepted_since_is_replayed_to_its_run(publisher: Publisher) -> None:
    publisher.flow(schema=CLOSED)
    request = publisher.request()
    refused = publisher.call(request)
    assert refused.status == 422
    publisher.flow()
    accepted = publisher.call(request)
    again = replay(publisher.lab.ledger, publisher.keeper, refused.id)
    assert (accepted.outcome, again.outcome, again.run_id) == ("started", "seen", accepted.run_id)


def test_two_operators_replay_once(publisher: Publisher) -> None:
    publisher.flow(schema=CLOSED, mode="off")
    refused = publisher.call()
    publisher.flow(mode="off")
    done = publisher.lab.race(*[lambda: replay(publisher.lab.ledger, publisher.keeper, refused.id)] * 3)
    outcomes = sorted(type(one).__name__ if isinstance(one, Exception) else one.outcome for one in done)
    assert outcomes.count("started") == 1, outcomes
    assert len(publisher.runs()) == 1


def test_what_was_accepted_cannot_be_replayed(publisher: Publisher) -> None:
    publisher.flow()
    with pytest.raises(Conflict, match="was not refused"):
        replay(publisher.lab.ledger, publisher.keeper, publisher.call().id)
    with pytest.raises(WebhookNotFound):
        replay(publisher.lab.ledger, publisher.keeper, uuid4())


# ---- registration ----------------------------------------------------------------------------------------------


def test_a_slug_belongs_to_one_flow(publisher: Publisher) -> None:
    publisher.flow("orders", "hook")
    with pytest.raises(Conflict, match="has the slug of one of flow orders"):
        publisher.flow("invoices", "hook")
    assert [row["name"] for row in publisher.lab.rows("SELECT name FROM flow_definitions")] == ["orders"]
    publisher.lab.flow(FLOW, "orders")  # without it
    publisher.flow("invoices", "hook")
    assert publisher.call().flow == "invoices"


def test_two_flows_that_want_one_slug_take_turns(publisher: Publisher) -> None:
    def deploy(name: str) -> Any:
        trigger = {"type": "webhook", "scheme": "generic", "secret": "env:SECRET"}
        return register.deploy(publisher.lab.ledger, Manifest(name=name, steps=FLOW, triggers={"hook": trigger}))

    done = publisher.lab.race(*[lambda name=name: deploy(name) for name in ("a", "b")])
    assert sorted(isinstance(one, Conflict) for one in done) == [False, True]


def test_the_slug_of_a_deleted_flow_is_free(publisher: Publisher) -> None:
    publisher.flow("orders", "hook")
    switch.disable(publisher.lab.ledger, "orders", "ops", None)
    delete_flow.delete(publisher.lab.ledger, "orders", "ops")
    with pytest.raises(WebhookNotFound):
        publisher.call()
    publisher.flow("invoices", "hook")
    assert publisher.call().outcome == "started"


def test_a_manifest_with_an_unknown_scheme_or_a_malformed_list_is_not_registered(publisher: Publisher) -> None:
    for fields in ({"scheme": "strype"}, {"addresses": ["10.0.0.0/99"]}):
        with pytest.raises(ManifestInvalid):
            publisher.flow(**fields)
    assert publisher.lab.rows("SELECT * FROM flow_definitions") == []


@pytest.mark.parametrize("name", ["github", "shopify", "bitbucket", "dropbox", "microsoft_teams", "twilio", "square"])
def test_a_publisher_without_a_signed_time_is_taken_once(publisher: Publisher, name: str) -> None:
    sample = SAMPLES[name]()
    publisher.secrets["env:SECRET"] = sample.secret
    publisher.flow(scheme=name)
    ids = ["x-github-delivery", "x-shopify-webhook-id", "x-request-uuid"]
    first = publisher.call(sample.request())
    other = replace(
        sample.request(), headers=(*(h for h in sample.request().headers if h[0] not in ids), (ids[0], "n"))
    )
    again = publisher.call(other)
    assert (first.outcome, again.outcome, again.run_id) == ("started", "seen", first.run_id)


def test_an_unreadable_body_is_told_as_such(publisher: Publisher) -> None:
    publisher.flow()
    with pytest.raises(WebhookUnreadable):
        publisher.call(publisher.request(b'{"id": NaN}')).accepted()
