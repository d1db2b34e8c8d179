"""Which failures fail a run: those that nothing takes up, nothing is content with, and that are not allowed."""

from typing import Any

import pytest

from orchestrator import Flow, Manifest, after, always, ended, flow, on_failure, step
from orchestrator.testing import World


class Broken(Exception):
    """What a step raises that fails."""


@step
def give() -> int:
    return 1


@step
def fail() -> int:
    raise Broken("the bank is closed")


def joined(join: str, *, may_fail: bool = False, **edges: Any) -> dict[str, Any]:
    return {
        "good": {"type": "give"},
        "bad": {"type": "fail", "may_fail": may_fail},
        "end": {"type": "give", "join": join, "run_after": edges},
    }


@pytest.mark.parametrize(
    ("steps", "end", "run"),
    [
        (joined("all", good="succeeded", bad="succeeded"), "skipped", "failed"),
        (joined("all", good="succeeded", bad="succeeded", may_fail=True), "skipped", "succeeded"),
        (joined("all", bad="failed"), "succeeded", "succeeded"),
        (joined("all", bad=["succeeded", "failed"]), "succeeded", "failed"),
        (joined("some", good="succeeded", bad="succeeded"), "succeeded", "succeeded"),
        (joined("none_failed", good="succeeded", bad="succeeded"), "skipped", "failed"),
        (joined("all_done", good=[], bad=[]), "succeeded", "failed"),
        (joined("all_done", good=[], bad=[], may_fail=True), "succeeded", "succeeded"),
        (joined("some", bad="succeeded"), "skipped", "failed"),
    ],
)
def test_which_failures_fail_a_run(world: World, steps: dict[str, Any], end: str, run: str) -> None:
    manifest = Manifest(name="ends", steps=steps, format=2)
    started = world.finish(world.start(Flow.from_manifest(manifest, [give, fail])))
    assert (started.steps["end"], started.status) == (end, run)
    assert (started.handle.row().error is None) is (run == "succeeded")


@flow
def audited() -> None:
    charged = fail()
    with always(charged):
        give()


@flow
def reported() -> int:
    return give.options(after=[ended(fail())])()


@flow
def ordered() -> None:
    with after(ended(fail())):
        give()


@flow
def told() -> None:
    charged = fail()
    with always(charged):
        give()
    with on_failure(charged):
        give()


@pytest.mark.parametrize(
    ("one", "run"), [(audited, "failed"), (reported, "failed"), (ordered, "failed"), (told, "succeeded")]
)
def test_what_waits_for_any_end_hides_no_failure(world: World, one: Flow[[], Any], run: str) -> None:
    """Also where nothing else in the flow is newer than the first format, in which it would."""
    started = world.finish(world.start(one))
    assert started.steps["give"] == "succeeded"
    assert started.status == run


def test_a_failure_that_is_allowed_is_told(world: World) -> None:
    manifest = Manifest(name="allowed", steps={"a": {"type": "fail", "may_fail": True}, "b": {"type": "give"}})
    started = world.finish(world.start(Flow.from_manifest(manifest, [give, fail])))
    assert started.status == "succeeded"
    assert started.explain().sentence.endswith("is over: succeeded. 1 step failed and was allowed to: a.")
