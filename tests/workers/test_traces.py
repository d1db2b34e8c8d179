"""Spans as a collector gets them: from a real exporter in real workers, traces compared as text."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from orchestrator.core.facts import StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.core.trace import Trace, as_json
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.observe.traces.otel import FLUSH_S, Provider
from orchestrator.observe.traces.span import Span
from tests.support.collector import CONSUMER, Collector, collecting
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, env_of
from tests.workers import flows_traced
from tests.workers.conftest import Bench

pytestmark = pytest.mark.slow
FLOWS = str(flows_traced.__file__)
CHAIN = """
    flow.trigger traced_chain succeeded
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
      flow.step later succeeded
        flow.runtime.execute later #1 succeeded
          async work
    """


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def traced(bench: Bench, worker_of: Callable[..., WorkerProcess], collector: Collector) -> Callable[..., WorkerProcess]:
    for value in vars(flows_traced).values():
        if type(value).__name__ == "Flow":
            register.register(bench.ledger, value.manifest)

    def start(**options: Any) -> WorkerProcess:
        return worker_of(bench, flows=FLOWS, env=collector.env(**options.pop("env", {})), **options)

    return start


def ran(bench: Bench, flow: str) -> UUID:
    run_id = bench.start(flow, number=1)
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    return run_id


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_run_is_a_trace_with_its_id_and_the_users_spans_are_in_it(
    bench: Bench, traced: Callable[..., WorkerProcess], collector: Collector, pool: str
) -> None:
    worker = traced(pool=pool, env={"ORCHESTRATOR_LOG_FORMAT": "json"})
    run_id = ran(bench, "traced_chain")
    collector.draws(run_id.hex, CHAIN)
    (first,) = collector.of("flow.runtime.execute", step__key="plus")
    (said,) = [json.loads(line) for line in worker.log().splitlines() if "said inside" in line]
    assert (said["trace_id"], said["span_id"]) == (run_id.hex, first.id), "log lines made inside name the span"
    assert first.kind == CONSUMER
    assert first.facts["messaging.destination.name"] == first.facts["floworch.queue"] == "default"
    assert first.facts["floworch.run.id"] == str(run_id)
    assert first.resource["service.name"] == "orchestrator"
    (root,) = collector.of("flow.trigger")
    assert root.began <= first.began < first.ended <= root.ended
    assert not any("number" in key for span in collector.spans for key in span.facts), "never an input"


def test_a_retry_is_told_with_the_attempt_before(
    bench: Bench, traced: Callable[..., WorkerProcess], collector: Collector
) -> None:
    traced()
    run_id = ran(bench, "traced_retry")
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_retry succeeded
      flow.step shaky succeeded
        flow.runtime.execute shaky #1 failed ERROR
        flow.step.retry shaky #2 failed
        flow.runtime.execute shaky #2 succeeded <- flow.runtime.execute shaky #1 failed ERROR
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
    """,
    )
    first, second = sorted(collector.of("flow.runtime.execute", step__key="shaky"), key=lambda one: one.began)
    assert first.facts["error.type"] == "ValueError"
    assert second.facts["users.number"] == 1, "what the handler sets on its span is there"


def test_a_crash_is_told_by_whoever_finds_it(
    bench: Bench, traced: Callable[..., WorkerProcess], collector: Collector
) -> None:
    traced()
    run_id = ran(bench, "traced_crash")
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_crash succeeded
      flow.step deadly succeeded
        flow.runtime.execute deadly #1 crashed ERROR
          before the end
        flow.step.retry deadly #2 crashed
        flow.runtime.execute deadly #2 succeeded <- flow.runtime.execute deadly #1 crashed ERROR
          before the end
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
    """,
    )


def test_a_child_that_is_recycled_sends_its_last_spans(bench: Bench, collector: Collector) -> None:
    """One step per child, with an exporter that would wait for a minute; and Celery's own program."""
    register.register(bench.ledger, flows_traced.traced_chain.manifest)
    more = {"ORCHESTRATOR_FLOWS": FLOWS, "TEST_EFFECTS": str(bench.effects_file)}
    env = env_of(bench.settings, **more, **collector.env(OTEL_BSP_SCHEDULE_DELAY="60000"))
    celery = [sys.executable, "-m", "celery", "-A", "orchestrator", "worker", "-c", "1", "--max-tasks-per-child", "1"]
    with (bench.folder / "celery.log").open("wb") as log:
        worker = subprocess.Popen(celery, env=env, cwd=bench.folder, stdout=log, stderr=log)
        try:
            runs = [ran(bench, "traced_chain") for _ in range(2)]
            eventually(lambda: len(collector.of("flow.trigger")) == 2, timeout=20, message="both runs are told")
        finally:
            worker.terminate()
            worker.wait(30)
    for run_id in runs:
        collector.draws(run_id.hex, CHAIN)


def test_what_is_below_a_host_programs_provider_is_its_own(
    bench: Bench, traced: Callable[..., WorkerProcess], collector: Collector
) -> None:
    """A provider that somebody set up is used: then attempts are children of what is kept with the run."""
    env = {"TEST_OWN_PROVIDER": collector.url, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    traced(pool="threads", env=env)
    trace = "0af7651916cd43dd8448eb211c80319c"
    request = StartRequest("traced_chain", '{"number": 1}', trace=as_json({"traceparent": f"00-{trace}-{'b' * 16}-01"}))
    (started,) = start_run.start(bench.ledger, [request])
    bench.publisher.publish(started.dispatches)
    assert bench.ended(started.run_id) is RunStatus.SUCCEEDED
    collector.draws(
        trace,
        """
    flow.runtime.execute plus #1 succeeded
      work
    flow.runtime.execute later #1 succeeded
      async work
    """,
    )
    assert {span.parent for span in collector.of("flow.runtime.execute")} == {"b" * 16}
    assert {span.resource["service.name"] for span in collector.spans} == {"theirs"}


def test_a_request_that_is_not_recorded_leaves_no_spans(
    bench: Bench, traced: Callable[..., WorkerProcess], collector: Collector
) -> None:
    """Nor do the user's in it. Its run is worked on before one that is."""
    traced(concurrency=1)
    trace = "0af7651916cd43dd8448eb211c80319c"
    request = StartRequest("traced_chain", '{"number": 1}', trace=as_json({"traceparent": f"00-{trace}-{'b' * 16}-00"}))
    (started,) = start_run.start(bench.ledger, [request])
    bench.publisher.publish(started.dispatches)
    assert bench.ended(started.run_id) is RunStatus.SUCCEEDED
    collector.draws(ran(bench, "traced_chain").hex, CHAIN)
    assert len({span.trace for span in collector.spans}) == 1


def test_a_collector_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends waits two seconds, where the exporter would wait for ten and try again."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        provider = Provider("test", public=False)
        trace, now = Trace.of(uuid7(), None), time.time_ns()
        provider.emit(Span("flow.trigger", trace, trace.root, None, now, now, {}))
        began = time.monotonic()
        provider.close()
        assert FLUSH_S - 0.1 < time.monotonic() - began < FLUSH_S + 2
