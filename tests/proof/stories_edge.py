"""Histories of deliveries to webhooks, of starts over HTTP and of one who listens, right and wrong: each wrong sentence
is the only one of its story."""

import json
from dataclasses import replace
from typing import Any

from tests.proof.history import SECOND, Delivery, Heard, History
from tests.proof.stories import right, wrong
from tests.proof.story import RUN, Story, call

SENT: dict[str, Any] = {"id": "evt"}


class Edge(Story):
    """A publisher, and the run that it starts."""

    def __init__(self, steps: dict[str, Any] | None = None) -> None:
        super().__init__(steps or {"a": call()})
        self.deliveries: list[Delivery] = []
        self.said: dict[str, Any] = {}

    def took(self) -> "Edge":
        """A run by the delivery."""
        self.start()
        self.calls.clear()
        self.body.update(SENT)
        self.said = dict(self.body)
        self.set_run(trigger_type="webhook")
        return self

    def delivered(self, reply: Any = "new", run_id: str | None = RUN, **changes: Any) -> None:
        """What the publisher was told."""
        begun = self.now
        body = json.dumps(self.said or {**SENT, "fates": {"a": {}}, "lists": {}})
        made = Delivery("pay", "demo", "evt", body, begun, self.tick(), reply, run_id, insists=True)
        self.deliveries.append(replace(made, **changes))

    def whole(self, **changes: Any) -> History:
        """With its run done."""
        if (("flow_runs", RUN)) in self.rows:
            self.do("a")
            self.end_run()
        return self.history(deliveries=tuple(self.deliveries), **changes)


def _ordered() -> Edge:
    """A run that waits for its payment."""
    story = Edge({"w": {"signal": {"name": "paid"}}})
    story.start()
    story.body["order"] = "o1"
    story.rows["flow_steps", RUN, "w"].update(status="blocked")
    story.park("w", 50)
    return story


def _paid(story: Edge, id: str = "evt", **changes: Any) -> None:
    """The signal comes, and the run goes on."""
    payload = {"id": id, "n": 1}
    story.commit()
    row = {"name": "paid", "id": f"d-{id}", "by": "webhook paid", "payload": payload, "sent_at": story.now}
    taken = {"consumed_by": "w", "consumed_at": story.now}
    story.put("flow_signals", (RUN, "paid", row["id"]), run_id=RUN, **row, **taken)
    story.set_step("w", status="succeeded", wake_at=None)
    story.put("flow_outputs", (RUN, "w"), run_id=RUN, step_key="w", output=payload)
    story.end_run()


def _tell(story: Edge, reply: Any = "new", run_id: str | None = RUN, **changes: Any) -> None:
    story.said = {"id": "evt", "n": 1}
    story.delivered(reply, run_id, signal="paid", order="o1", **changes)


# ---- starts ----


@right
def a_delivery_is_sent_until_it_is_acknowledged() -> History:
    story = Edge()
    story.delivered("unknown", None)
    story.took()
    story.delivered("unknown", None)
    story.delivered("seen")
    story.delivered("seen")
    return story.whole()


@right
def a_delivery_that_nobody_signed_is_refused() -> History:
    story = Edge()
    story.delivered("refused", None, genuine=False)
    return story.whole()


@right
def a_publisher_gives_up_and_nothing_came_of_it() -> History:
    story = Edge()
    story.delivered("unknown", None, insists=False)
    return story.whole()


@wrong("I7", "I15")
def an_acknowledged_delivery_is_lost() -> History:
    """Its nonce was taken in a commit of its own, and the run's never came."""
    story = Edge()
    story.delivered("unknown", None)
    story.delivered("seen", "gone")
    return story.whole()


@wrong("I15")
def a_delivery_is_never_taken() -> History:
    story = Edge()
    story.delivered("unknown", None)
    story.delivered("unknown", None)
    return story.whole()


@wrong("I15")
def a_delivery_starts_two_runs() -> History:
    story = Edge().took()
    story.delivered()
    row = dict(story.rows["flow_runs", RUN])
    history = story.whole()
    twin = {**history.runs[RUN], **row, "id": "run-2", "status": "succeeded", "trigger_body": story.body}
    return replace(history, final={**history.final, "flow_runs": (*history.final["flow_runs"], twin)})


@wrong("I15")
def the_same_delivery_is_answered_with_another_run() -> History:
    story = Edge().took()
    story.delivered()
    story.asked("start", run_id="run-2")
    story.calls.clear()
    story.delivered("seen", "run-2")
    return story.whole()


@wrong("I15")
def a_delivery_is_new_twice() -> History:
    story = Edge().took()
    story.delivered()
    story.delivered()
    return story.whole()


@wrong("I15")
def a_delivery_is_known_before_it_came() -> History:
    story = Edge().took()
    story.delivered("seen")
    return story.whole()


@wrong("I15")
def a_signed_delivery_is_refused() -> History:
    story = Edge()
    story.delivered("refused", None, insists=False)
    return story.whole()


@wrong("I15")
def what_nobody_signed_starts_a_run() -> History:
    story = Edge().took()
    story.delivered(genuine=False)
    return story.whole()


@wrong("I15")
def a_run_is_by_a_delivery_that_nobody_sent() -> History:
    return Edge().took().whole()


@wrong("I15")
def a_run_has_another_input_than_was_sent() -> History:
    story = Edge().took()
    story.delivered()
    story.deliveries[0] = replace(story.deliveries[0], body='{"id": "evt"}')
    return story.whole()


# ---- signals ----


@right
def a_payment_comes_early_and_again() -> History:
    story = Edge({"w": {"signal": {"name": "paid"}}})
    _tell(story, "refused", None)
    story.start()
    story.body["order"] = "o1"
    story.rows["flow_steps", RUN, "w"].update(status="blocked")
    story.park("w", 50)
    _tell(story, "unknown", None)
    _paid(story)
    _tell(story, "seen")
    return story.history(deliveries=tuple(story.deliveries))


@right
def a_payment_comes_when_nothing_waits_for_it() -> History:
    story = _ordered()
    story.asked("settle", step_key="w")
    story.skip("w", "skipped by op: by hand")
    story.end_run()
    _tell(story, "refused", None)
    return story.history(deliveries=tuple(story.deliveries))


@wrong("I15")
def a_payment_is_acknowledged_and_lost() -> History:
    story = _ordered()
    _tell(story)
    story.asked("settle", step_key="w")
    story.skip("w", "skipped by op: by hand")
    story.end_run()
    return story.history(deliveries=tuple(story.deliveries))


@wrong("I15")
def a_payment_that_was_taken_is_refused() -> History:
    """Its answer was lost; when it comes again, its run has ended."""
    story = _ordered()
    _tell(story, "unknown", None)
    _paid(story)
    story.tick(1)
    _tell(story, "refused", None)
    return story.history(deliveries=tuple(story.deliveries))


@wrong("I15")
def a_payment_in_time_is_refused() -> History:
    story = _ordered()
    _tell(story, "refused", None)
    story.tick(1)
    story.asked("settle", step_key="w")
    story.skip("w", "skipped by op: by hand")
    return story.end_run().history(deliveries=tuple(story.deliveries))


# ---- starts over HTTP ----


def _waited(status: str) -> History:
    story = Story({"a": call()}).start()
    story.do("a")
    story.end_run()
    story.calls[0] = replace(story.calls[0], ended_as=status)
    return story.history()


@right
def a_client_waits_for_the_end() -> History:
    return _waited("succeeded")


@wrong("I7")
def a_client_is_told_of_an_end_that_never_was() -> History:
    return _waited("failed")


@wrong("I12")
def a_key_is_answered_with_a_new_run() -> History:
    story = Story({"a": call()}).start(key="k")
    story.do("a")
    story.asked("start", key="k", run_id="run-2")
    return story.end_run().history()


def _requested(run_id: str, refused: str = "one of two others") -> History:
    """A request with a key whose first answer is lost, and that is sent again. Then another comes with its key, which
    has the same in this place."""
    story = Story({"a": call()}).start()
    told = replace(story.calls[0], request="r#0", asked="two")
    lost, other = replace(told, reply="unknown", run_id=None), replace(told, reply="refused", run_id=None)
    story.calls = [lost, replace(told, run_id=run_id), told, replace(other, asked=refused)]
    story.do("a")
    return story.end_run().history()


@right
def a_request_with_a_key_is_sent_again() -> History:
    return _requested(RUN)


@wrong("I12")
def a_request_with_a_key_is_answered_with_other_runs() -> History:
    return _requested("run-2")


@wrong("I12")
def a_request_with_a_key_is_refused_when_it_comes_again() -> History:
    return _requested(RUN, refused="two")


@wrong("I12")
def a_request_with_a_key_was_done_twice() -> History:
    """The run of the first time, whose answer was lost, is nobody's."""
    history = _requested(RUN)
    twin = {**history.runs[RUN], "id": "run-2"}
    return replace(history, final={**history.final, "flow_runs": (*history.final["flow_runs"], twin)})


# ---- the stream ----


def _heard(*told: Heard, **changes: Any) -> History:
    """Of two events, the second one while somebody listens."""
    story = Story({"a": call()}).start()
    story.do("a")
    story.end_run()
    events = [{"run_id": RUN, "id": id, "type": "run.accepted", "at": id * SECOND} for id in (1, 2)]
    history = story.history(heard=told, **{"listening_ns": 3 * SECOND // 2, **changes})
    return replace(history, final={**history.final, "flow_events": tuple(events)})


@right
def an_event_is_told_twice() -> History:
    one = Heard(2, RUN, "run.accepted")
    return _heard(one, one)


@wrong("I23")
def an_event_is_never_told() -> History:
    return _heard()


@wrong("I23")
def an_event_is_told_that_was_not_committed() -> History:
    return _heard(Heard(2, RUN, "run.accepted"), Heard(3, RUN, "run.succeeded"))


@wrong("I23")
def two_events_have_one_id() -> History:
    return _heard(Heard(2, RUN, "run.accepted"), Heard(2, RUN, "run.failed"))


@wrong("I23")
def a_listener_loses_the_place() -> History:
    return _heard(Heard(2, RUN, "run.accepted"), lost_places=1)
