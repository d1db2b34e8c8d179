"""One trace from a request to the last step, and links between traces: from a real API and real workers."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.client.remote.transport import Ask
from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import register
from orchestrator.http.app import create_app
from tests.support.collector import Collector, collecting
from tests.support.deliveries import KEY, compact, hexed
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess
from tests.workers import flows_traced
from tests.workers.conftest import Bench

pytestmark = pytest.mark.slow
FLOWS = str(flows_traced.__file__)
TRACE = "0af7651916cd43dd8448eb211c80319c"
CAME = {"traceparent": f"00-{TRACE}-{'b' * 16}-01"}
ALL = """
    flow.trigger traced_all succeeded
      flow.step shaky succeeded
        flow.runtime.execute shaky #1 failed ERROR
        flow.step.retry shaky #2 failed
        flow.runtime.execute shaky #2 succeeded <- flow.runtime.execute shaky #1 failed ERROR
      flow.step traced_below succeeded
        flow.trigger traced_below succeeded
          flow.step deadly succeeded
            flow.runtime.execute deadly #1 crashed ERROR
              before the end
            flow.step.retry deadly #2 crashed
            flow.runtime.execute deadly #2 succeeded <- flow.runtime.execute deadly #1 crashed ERROR
              before the end
          flow.step plus succeeded
            flow.runtime.execute plus #1 succeeded
              work
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
    """


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    for value in vars(flows_traced).values():
        if type(value).__name__ == "Flow":
            register.register(bench.ledger, value.manifest)
    with Client(bench.settings) as made:
        yield made


@pytest.fixture
def worker(
    bench: Bench, client: Client, worker_of: Callable[..., WorkerProcess], collector: Collector
) -> WorkerProcess:
    return worker_of(bench, flows=FLOWS, env=collector.env())


@pytest.fixture
def api(
    bench: Bench, worker: WorkerProcess, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    for name, value in {**collector.env(), "WEBHOOK_TEST_SECRET": KEY}.items():
        monkeypatch.setenv(name, value)
    settings = bench.settings.model_copy(update={"auth": "open"})
    with TestClient(create_app(settings), "http://127.0.0.1", client=("127.0.0.1", 50000)) as made:
        yield made


def post(api: TestClient, path: str, body: Any, **headers: str) -> Any:
    answer = api.post(path, content=compact(body), headers={"Content-Type": "application/json", **headers})
    assert answer.status_code < 300, answer.text
    return answer.json()


def delivered(api: TestClient, **headers: str) -> UUID:
    body, time = compact(headers), str(int(datetime.now(UTC).timestamp()))
    proof = {
        "X-Webhook-Timestamp": time,
        "X-Webhook-Signature": "sha256=" + hexed(f"{time}.".encode() + body, KEY),
    }
    answer = api.post("/api/webhook/traced", content=body, headers={**proof, **headers})
    assert answer.status_code < 300, answer.text
    return UUID(answer.json()["run_id"])


def ended(bench: Bench, run_id: UUID) -> UUID:
    assert bench.ended(run_id) is RunStatus.SUCCEEDED
    return run_id


def indented(tree: str) -> str:
    return "\n".join(f"  {line}" if line.strip() else line for line in tree.splitlines()).lstrip("\n")


def test_a_request_is_one_tree_to_the_last_step(bench: Bench, api: TestClient, collector: Collector) -> None:
    """Over a retry, a kill -9 and a run of another flow."""
    run = post(api, "/api/flows/traced_all/trigger", {"number": 1}, **CAME)
    ended(bench, UUID(run["id"]))
    collector.draws(TRACE, ALL)
    (root,) = collector.of("flow.trigger", flow="traced_all")
    assert root.parent == "b" * 16, "the caller's own span is above"


def test_a_webhook_is_one_tree_to_the_last_step(bench: Bench, api: TestClient, collector: Collector) -> None:
    """The trace has the run's id, also below the delivery; a publisher's own trace is above it."""
    run_id = ended(bench, delivered(api))
    collector.draws(run_id.hex, f"    flow.webhook.receive traced_all\n{indented(ALL)}")
    other = ended(bench, delivered(api, **CAME))
    collector.draws(TRACE, f"    flow.webhook.receive traced_all\n{indented(ALL)}")
    (received,) = [one for one in collector.of("flow.webhook.receive") if one.trace == TRACE]
    assert (received.parent, received.facts["floworch.run.id"]) == ("b" * 16, str(other))


def test_a_join_is_linked_to_all_before_it(bench: Bench, worker: WorkerProcess, collector: Collector) -> None:
    run_id = ended(bench, bench.start("traced_join", number=1))
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_join succeeded
      flow.step one succeeded
        flow.runtime.execute one #1 succeeded
          work
      flow.step other succeeded
        flow.runtime.execute other #1 succeeded
          work
      flow.step both succeeded <- flow.step one succeeded <- flow.step other succeeded
        flow.runtime.execute both #1 succeeded
    """,
    )


def test_what_is_in_a_loop_is_below_it_or_its_item(bench: Bench, worker: WorkerProcess, collector: Collector) -> None:
    run_id = ended(bench, bench.start("traced_loops", numbers=[1]))
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_loops succeeded
      flow.step plus succeeded
        flow.step plus.0.plus succeeded
          flow.runtime.execute plus.0.plus #1 succeeded
            work
      flow.step in_item succeeded
        flow.step in_item.0 succeeded
          flow.step in_item.0.first succeeded
            flow.runtime.execute in_item.0.first #1 succeeded
              work
          flow.step in_item.0.second succeeded
            flow.runtime.execute in_item.0.second #1 succeeded
              work
    """,
    )


def test_a_run_that_is_let_go_a_rerun_and_a_tick_are_linked(
    bench: Bench, client: Client, worker: WorkerProcess, collector: Collector
) -> None:
    caller = ended(bench, bench.start("traced_alone", number=1))
    child = ended(bench, UUID(client.run(caller).result(timeout=30)))
    again = ended(bench, client.run(child).rerun().id)
    eventually(lambda: len(collector.of("flow.trigger")) == 3, message="three runs are told")
    roots = {UUID(hex=span.trace): span for span in collector.of("flow.trigger")}
    (step,) = [
        span
        for span in collector.of("flow.step")
        if span.trace == caller.hex and span.title.startswith("flow.step traced_join")
    ]
    assert roots[child].links == (step.id,)
    assert roots[again].links == (roots[child].id,)
    now = datetime.now(UTC)
    client.schedule("traced_yearly", "yearly").backfill(now - timedelta(days=366), now - timedelta(days=1))
    eventually(
        lambda: collector.of("flow.trigger", flow="traced_yearly"), timeout=30, message="the run of the tick is told"
    )
    (run,), (tick,) = collector.of("flow.trigger", flow="traced_yearly"), collector.of("flow.schedule.tick")
    assert (run.links, tick.facts["floworch.schedule"]) == ((tick.id,), "yearly")
    assert run.trace not in (tick.trace, caller.hex, child.hex)


def test_a_signal_is_linked_to_the_wait_that_took_it(
    bench: Bench, client: Client, api: TestClient, collector: Collector
) -> None:
    run_id = bench.start("traced_signal", number=1)
    eventually(lambda: any(row.awaits for row in client.run(run_id).steps()), message="the run waits")
    post(api, f"/api/runs/{run_id}/signals/answer", {"yes": True}, **CAME)
    ended(bench, run_id)
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_signal succeeded
      flow.step answer succeeded
      flow.step told succeeded
        flow.runtime.execute told #1 succeeded
    """,
    )
    (signal,) = collector.of("flow.signal.deliver")
    (wait,) = collector.of("flow.step", step__key="answer")
    assert (signal.trace, signal.parent, signal.links) == (TRACE, "b" * 16, (wait.id,))


def test_polls_and_conditions_are_told(bench: Bench, worker: WorkerProcess, collector: Collector) -> None:
    run_id = ended(bench, bench.start("traced_when", number=1))
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_when succeeded
      flow.step never skipped
        flow.step.when never false
      flow.step pollster succeeded
        flow.step.poll pollster #1 not_ready
        flow.runtime.execute pollster #2 succeeded
    """,
    )


def test_a_run_that_waited_long_goes_on_in_another_trace(
    bench: Bench, client: Client, worker_of: Callable[..., WorkerProcess], collector: Collector
) -> None:
    """An hour is a second here."""
    settings = bench.settings.model_copy(update={"trace_split": timedelta(seconds=1)})
    worker_of(bench, flows=FLOWS, settings=settings, env=collector.env())
    run_id = bench.start("traced_long", number=1)
    ended(bench, run_id)
    first = """
    flow.trigger traced_long waited
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
      flow.step sleep succeeded
    """
    collector.draws(run_id.hex, first)
    eventually(lambda: len(collector.of("flow.trigger")) == 2, message="both parts are told")
    (later,) = [span for span in collector.of("flow.trigger") if span.trace != run_id.hex]
    collector.draws(
        later.trace,
        """
    flow.trigger traced_long succeeded <- flow.trigger traced_long waited
      flow.step last succeeded
        flow.runtime.execute last #1 succeeded
          work
    """,
    )
    assert json.dumps(later.facts).count("floworch.segment") == 1


def test_a_run_that_is_retried_after_its_end_goes_on_in_another_trace(
    bench: Bench, client: Client, worker: WorkerProcess, collector: Collector
) -> None:
    run_id = bench.start("traced_mended", number=1)
    assert bench.ended(run_id) is RunStatus.FAILED
    collector.draws(
        run_id.hex,
        """
    flow.trigger traced_mended failed ERROR
      flow.step mended failed ERROR
        flow.runtime.execute mended #1 failed ERROR
      flow.step plus skipped
    """,
    )
    bench.effects_file.with_name("mended").touch()
    client.run(run_id).retry()
    ended(bench, run_id)
    eventually(lambda: len(collector.of("flow.trigger")) == 2, message="both parts are told")
    (again,) = [span for span in collector.of("flow.trigger") if span.trace != run_id.hex]
    collector.draws(
        again.trace,
        """
    flow.trigger traced_mended succeeded <- flow.trigger traced_mended failed ERROR
      flow.step mended succeeded
        flow.runtime.execute mended #2 succeeded <- flow.runtime.execute mended #1 failed ERROR
      flow.step plus succeeded
        flow.runtime.execute plus #1 succeeded
          work
    """,
    )


def test_a_client_over_http_sends_the_span_that_is_current() -> None:
    place = SpanContext(int(TRACE, 16), int("b" * 16, 16), is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(place)), httpx2.Client(base_url="http://127.0.0.1") as http:
        assert Ask("GET", "/runs").request(http).headers["traceparent"] == CAME["traceparent"]
    with httpx2.Client(base_url="http://127.0.0.1") as http:
        assert "traceparent" not in Ask("GET", "/runs").request(http).headers


def test_the_api_keeps_what_was_decided(
    bench: Bench, client: Client, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a ratio, of ids that are spread: with those of UUIDs a quarter would be none."""
    for name, value in collector.env(
        OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25"
    ).items():
        monkeypatch.setenv(name, value)
    settings = bench.settings.model_copy(update={"auth": "open"})
    with TestClient(create_app(settings), "http://127.0.0.1", client=("127.0.0.1", 50000)) as api:
        inputs = [{"number": number} for number in range(200)]
        started = post(api, "/api/flows/traced_chain/trigger/batch", {"inputs": inputs})["items"]
        kept = [client.run(UUID(one["id"])).row().trace_context["traceparent"] for one in started[:100]]
        sampled = sum(one.endswith("-01") for one in kept)
        assert 5 < sampled < 50
        assert all(UUID(hex=one.split("-")[1]) == UUID(run["id"]) for one, run in zip(kept, started, strict=False))
