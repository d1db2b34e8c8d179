"""The checker sees a rerun that keeps what it must not."""

from dataclasses import replace
from typing import Any

import pytest

from tests.proof.executions import i10_effects_happen_once
from tests.proof.history import Call, History, Invocation
from tests.proof.reruns import as_they_were
from tests.proof.story import HASH, call

STEPS = {"a": call(), "b": call({"a": ["succeeded"]}), "c": call({"b": ["succeeded"]})}
KEPT = "kept from run run-0"


def history(
    *invocations: Invocation, output: Any = 1, calls: tuple[Call, ...] = (), **changed: dict[str, Any]
) -> History:
    """`run-1` kept `a` and `b` of `run-0`, and ran `c`."""
    before = {key: {"status": "succeeded"} for key in STEPS} | {"c": {"status": "failed"}}
    now: dict[str, dict[str, Any]] = {
        "a": {"status": "succeeded", "reason": KEPT},
        "b": {"status": "succeeded", "reason": KEPT},
        "c": {"status": "succeeded"},
    }
    runs = {"run-0": before, "run-1": {key: {**row, **changed.get(key, {})} for key, row in now.items()}}
    return History(
        invocations=invocations,
        calls=calls,
        final={
            "flow_runs": tuple({"id": run_id, "manifest_hash": HASH} for run_id in runs),
            "flow_steps": tuple(
                {"run_id": run_id, "step_key": key, **row} for run_id, rows in runs.items() for key, row in rows.items()
            ),
            "flow_outputs": (
                {"run_id": "run-0", "step_key": "a", "output": 1},
                {"run_id": "run-1", "step_key": "a", "output": output},
            ),
        },
        manifests={HASH: {"name": "demo", "steps": STEPS}},
    )


def again(step_key: str) -> Call:
    """An operator's, from this step on."""
    return Call("start", "demo", 1, 2, "ok", run_id="run-1", step_key=step_key)


def said(told: History) -> list[str]:
    return [f"{one.step_key} {one.sentence}" for one in as_they_were(told, "run-1")]


def test_what_is_kept_rightly() -> None:
    assert said(history()) == []
    assert said(history(calls=(again("c"),))) == []
    assert said(history(b={"status": "succeeded", "reason": f"{KEPT}: a note"})) == []


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (history(c={"reason": KEPT}), "c kept as succeeded, and it was failed"),
        (history(b={"status": "skipped"}), "b kept as skipped, and it was succeeded"),
        (history(output=2), "a kept with another output"),
        (history(a={"reason": ""}), "b kept, and a before it is not"),
        (history(calls=(again("b"),)), "b it was to run again, and is kept"),
        (history(Invocation("run-1", "b", 1, 1, "run-1:b", 1)), "b kept, and it has a start line"),
    ],
)
def test_what_is_kept_wrongly(told: History, sentence: str) -> None:
    assert said(told) == [sentence]


def test_the_effect_of_what_is_kept_is_there_once() -> None:
    told = history(Invocation("run-0", "a", 1, 1, "run-0:a", 1))
    rows = tuple({**row, "attempts": int(row["run_id"] == "run-0")} for row in told.final["flow_steps"])
    told = replace(
        told,
        final={**told.final, "flow_steps": rows},
        manifests={HASH: {"name": "demo", "steps": {**STEPS, "a": call(transactional=True)}}},
        effects={"run-0:a": (1,)},
    )
    assert list(i10_effects_happen_once(told)) == []
