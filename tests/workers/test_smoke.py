"""A run that does nothing goes through every queue that a real worker serves."""

from collections.abc import Callable

import pytest

from orchestrator.client import Client
from orchestrator.errors import UsageError
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers.conftest import Bench


def test_each_queue_that_is_served_is_gone_through(bench: Bench, worker: Callable[..., WorkerProcess]) -> None:
    with Client(bench.settings) as client:
        with pytest.raises(UsageError, match="No live worker is there"):
            client.trials.smoke()
        worker(queues=["default", "fast"])
        eventually(lambda: {queue for row in client.workers.listed() for queue in row.queues} == {"default", "fast"})
        canaries = client.trials.smoke()
        assert [one.queue for one in canaries] == ["default", "fast"]
        for one in canaries:
            assert client.run(one.run_id).wait(60) == "succeeded"
            (step,) = client.run(one.run_id).steps()
            assert step.queue == one.queue
        with pytest.raises(UsageError, match=r"takes from queue 'slow'\. Served are default, fast"):
            client.trials.smoke(["slow"])
        assert {row.name for row in client.flows.listed()} >= {"orchestrator-smoke"}
        assert not client.workers.releases().unserved
