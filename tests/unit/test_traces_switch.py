"""Who asks for spans, and that nobody who does not gets OpenTelemetry."""

import subprocess
import sys

import pytest

from orchestrator.errors import SettingsInvalid
from orchestrator.observe.traces import switch

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "orders"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_variables_of_opentelemetry_switch_it(env: dict[str, str], wanted: bool) -> None:
    assert switch.wanted(env) is wanted


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
    ],
)
def test_what_we_do_not_have_is_refused(env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsInvalid, match=named):
        switch.wanted(env)


def test_a_missing_sdk_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "find_spec", lambda name: None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'flow-orchestrator\[otel\]'"):
        switch.wanted(ENDPOINT)


def test_a_worker_that_makes_no_spans_does_not_import_them() -> None:
    """Redis' client imports what there is of metrics."""
    code = """
import sys
import orchestrator.workers.app.celery_app, orchestrator.workers.run.deliver, orchestrator.http.server
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""
    env = {"ORCHESTRATOR_BROKER_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
