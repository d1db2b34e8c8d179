"""The test kit: flows in a test, with the real engine and the real SQL, and a clock that moves only when told.

    from orchestrator.testing import sim

    def test_the_audit() -> None:
        with sim(audit) as world:
            world.fake(fetch, returns=PAGE)
            run = world.start(audit, url="https://example.org")
            assert run.result() == 3

It wants an embedded PostgreSQL (`pip install flow-orchestrator[embedded]`), or a server of yours, named by
ORCHESTRATOR_SIM_DATABASE_URL; no Redis, no Celery. Nothing runs at the same time: handlers run in the test's own
thread, one after the other, in an order that a seed decides.
"""

from orchestrator.testing.checks import check_flow
from orchestrator.testing.fakes import Call, Fake
from orchestrator.testing.sim_run import SimRun
from orchestrator.testing.world import World, sim

__all__ = ["Call", "Fake", "SimRun", "World", "check_flow", "sim"]
