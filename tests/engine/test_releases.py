"""Which releases of the code are needed, and by what."""

from dataclasses import replace
from datetime import timedelta

from orchestrator.core.facts import WorkerInfo, pair
from orchestrator.core.manifest import Manifest
from orchestrator.core.releases import ReleaseState, judged
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.engine.runs import cancel_run
from orchestrator.ledger import reads, releases
from tests.support.factories import Lab, after, call

OLD = Manifest(name="shop", steps={"a": call("pack")})
NEW = Manifest(name="shop", steps={"a": call("pack"), "b": {**after("a"), "type": "label"}})
OTHER = Manifest(name="mail", steps={"a": call("send")})


def worker(name: str, *manifests: Manifest, label: str | None = None, **more: object) -> WorkerInfo:
    handlers = tuple(f"{one.name}.{step.type}" for one in manifests for step in one.steps.values())
    versions = {one.name: one.hash for one in manifests}
    info = WorkerInfo(name, "h", 1, "prefork", 1, 1, ("default",), handlers, "1", versions=versions, label=label)
    return replace(info, **more)


def judge(lab: Lab, *infos: WorkerInfo) -> dict[str, tuple[str, list[tuple[str, int, bool]]]]:
    """By release, its state, and what needs it: which version, how many open runs, whether new ones."""
    for info in infos:
        workers.hello(lab.ledger, info)
    live = [row for row in reads.workers.every(lab.ledger) if row.live]
    found = judged(live, releases.wanted(lab.ledger))
    names = {OLD.hash: "old", NEW.hash: "new", OTHER.hash: "mail"}
    told = {
        one.name: (one.state.value, [(names[need.manifest_hash], need.runs, need.current) for need in one.needs])
        for one in found.releases
    }
    lost = [(names[need.manifest_hash], need.runs, need.current) for need in found.unserved]
    return {**told, "": ("", lost)} if lost else told


def test_a_release_is_drained_when_its_last_run_has_ended(lab: Lab) -> None:
    register.register(lab.ledger, OLD, "test")
    runs = [lab.start("shop") for _ in range(2)]
    register.register(lab.ledger, NEW, "test")
    old = worker("h/1/a", OLD, label="v1", handlers=("shop.pack",))
    new = worker("h/2/b", NEW, label="v2", refuses={pair("shop.pack", OLD.hash): "other inputs"})
    assert judge(lab, old, new) == {
        "v1": ("draining", [("old", 2, False)]),
        "v2": ("current", [("new", 0, True)]),
    }
    for run_id in runs:
        cancel_run.cancel(lab.ledger, run_id, by="test", reason="", grace=timedelta(0))
    assert judge(lab)["v1"] == (ReleaseState.DRAINED, [])


def test_a_run_that_new_code_can_go_on_with_needs_no_old_release(lab: Lab) -> None:
    register.register(lab.ledger, OLD, "test")
    lab.start("shop")
    register.register(lab.ledger, NEW, "test")
    told = judge(lab, worker("h/1/a", OLD, label="v1"), worker("h/2/b", NEW, label="v2"))
    assert told["v1"] == ("drained", [])


def test_a_flow_that_only_the_old_release_has_keeps_it(lab: Lab) -> None:
    for manifest in (OLD, OTHER, NEW):
        register.register(lab.ledger, manifest, "test")
    told = judge(lab, worker("h/1/a", OLD, OTHER, label="v1"), worker("h/2/b", NEW, label="v2"))
    assert told["v1"] == ("draining", [("mail", 0, True)])


def test_runs_whose_code_nobody_has_are_told(lab: Lab) -> None:
    register.register(lab.ledger, OLD, "test")
    lab.start("shop")
    assert judge(lab, worker("h/2/b", OTHER, label="v2"))[""] == ("", [("old", 1, True)])


def test_without_a_name_a_release_is_called_after_its_versions(lab: Lab) -> None:
    register.register(lab.ledger, OLD, "test")
    told = judge(lab, worker("h/1/a", OLD), worker("h/2/b", OLD), worker("h/3/c", OTHER))
    assert len(told) == 2
    assert all(name.startswith("code-") and len(name) == 13 for name in told)
