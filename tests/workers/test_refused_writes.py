"""A broker that is up and refuses writes: no worker ends, and each goes on when the broker takes writes again."""

import pytest
import redis

from orchestrator.doctor import Status, examine
from tests.support.eventually import eventually
from tests.workers.conftest import Bench
from tests.workers.test_outages import Start

REFUSE = ("min-replicas-to-write", "1")
TAKE = ("min-replicas-to-write", "0")


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_worker_stays_and_recovers(bench: Bench, worker: Start, pool: str) -> None:
    with redis.Redis.from_url(bench.settings.require_broker_url()) as broker:
        process = worker(pool=pool, concurrency=2)
        assert bench.result(bench.start("chain", n=1)) == 20
        try:
            broker.config_set(*REFUSE)
            eventually(lambda: "broker.refuses" in process.log(), timeout=60)
            process.says("it is up and refuses writes")
            finding = next(one for one in examine(bench.settings) if one.check == "broker writes")
            assert finding.status is Status.FAIL
            assert "min-replicas-to-write" in finding.fix
            run_id = bench.start("chain", n=1, publish=False)
            assert process.alive
        finally:
            broker.config_set(*TAKE)
        assert bench.result(run_id) == 20
        assert "CRITICAL" not in process.log()
        process.term()
        assert process.wait() == 0
