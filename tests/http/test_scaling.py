"""An autoscaler asks over HTTP: one number, what it is made of, and why; asked often, it asks the ledger seldom."""

import pytest
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.scaling import Group
from orchestrator.http import scaling
from orchestrator.settings import Settings
from tests.support.small_flows import hello


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"scaling_groups": {"default": Group(queues=("default",), slots=2, max=3)}})


def test_an_autoscaler_is_told_a_number_and_why(api: TestClient, stack: Client) -> None:
    """As KEDA reads it: `valueLocation: replicas`."""
    for n in range(3):
        stack.start(hello, name=str(n))
    assert api.get("/api/scaling?group=default").json() == {
        "group": "default",
        "replicas": 2,
        "running": 0,
        "ready": 3,
        "due": 0,
        "mean_duration_s": None,
        "slots_needed": 3.0,
        "slots": 2,
        "reason": "0 running, 3 ready, 0 due within 30s, of unknown length each, to begin within 1m, take 3 slots: "
        "2 workers with 2 slots",
    }


def test_the_ledger_is_asked_once_in_a_while_however_many_ask(stack: Client) -> None:
    reckoned = scaling.Reckoned()
    first = reckoned.of(stack, "default")
    stack.start(hello, name="you")
    assert reckoned.of(stack, "default") is first
    assert scaling.Reckoned().of(stack, "default").ready == 1


def test_a_group_that_nobody_named_is_told_with_the_fix(api: TestClient) -> None:
    answer = api.get("/api/scaling?group=gpu")
    assert (answer.status_code, answer.json()["code"]) == (404, "scaling_group_not_found")
    assert "There is no scaling group 'gpu', but default." in answer.text
    assert "ORCHESTRATOR_SCALING_GROUPS" in answer.text
