"""Which failures fail a run: those that nothing takes up, nothing is content with, and that are not allowed."""

from typing import Any

import pytest

from orchestrator import Flow, Manifest, step
from orchestrator.testing import World


class Broken(Exception):
    """What a step raises that fails."""


@step
def give() -> int:
    return 1


@step
def fail() -> int:
    raise Broken("the bank is closed")


def after(join: str, *, may_fail: bool = False, **edges: Any) -> dict[str, Any]:
    return {
        "good": {"type": "give"},
        "bad": {"type": "fail", "may_fail": may_fail},
        "end": {"type": "give", "join": join, "run_after": edges},
    }


@pytest.mark.parametrize(
    ("steps", "end", "run"),
    [
        (after("all", good="succeeded", bad="succeeded"), "skipped", "failed"),
        (after("all", good="succeeded", bad="succeeded", may_fail=True), "skipped", "succeeded"),
        (after("all", bad="failed"), "succeeded", "succeeded"),
        (after("all", bad=["succeeded", "failed"]), "succeeded", "failed"),
        (after("some", good="succeeded", bad="succeeded"), "succeeded", "succeeded"),
        (after("none_failed", good="succeeded", bad="succeeded"), "skipped", "failed"),
        (after("all_done", good=[], bad=[]), "succeeded", "failed"),
        (after("all_done", good=[], bad=[], may_fail=True), "succeeded", "succeeded"),
        (after("some", bad="succeeded"), "skipped", "failed"),
    ],
)
def test_which_failures_fail_a_run(world: World, steps: dict[str, Any], end: str, run: str) -> None:
    manifest = Manifest(name="ends", steps=steps, when_errors="skip")  # of the second format
    started = world.finish(world.start(Flow.from_manifest(manifest, [give, fail])))
    assert (started.steps["end"], started.status) == (end, run)
    assert (started.handle.row().error is None) is (run == "succeeded")
