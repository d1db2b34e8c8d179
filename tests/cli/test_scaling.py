"""`orchestrator scaling`."""

import pytest

from orchestrator.client import Client
from orchestrator.core.scaling import Group
from orchestrator.settings import Settings
from tests.cli.conftest import Cli
from tests.support.small_flows import hello

GROUP = Group(queues=("default",), slots=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"scaling_groups": {"default": GROUP}})


def test_a_group_is_told_with_the_reason(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SCALING_GROUPS", f'{{"default": {GROUP.model_dump_json()}}}')
    stack.start(hello, name="you")
    assert cli("scaling", "-o", "json").json["replicas"] == 1
    said = cli("scaling", "--group", "default").out
    assert "workers:  1" in said
    assert "1 ready" in said
    assert "There is no scaling group 'gpu', but default" in cli("scaling", "--group", "gpu", code=3).err
