"""Whether this process makes spans: OpenTelemetry's own variables say so, and the SDK is imported only then."""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from orchestrator.core.traced import Past
from orchestrator.errors import SettingsInvalid
from orchestrator.observe import correlation, observer
from orchestrator.observe.traces import incoming

if TYPE_CHECKING:
    from orchestrator.observe.traces.spans import Spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP: Final = "http/protobuf"
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans: it names where they go, or says `OTEL_TRACES_EXPORTER=otlp`; or whether
    the program around us has set up a provider already.

    Raises:
        SettingsInvalid: it asks for what we do not have.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none":
        return False
    if _set_up_around_us():
        return True
    if not exporter and not any(env.get(name, "").strip() for name in _ENDPOINTS):
        return False
    if exporter not in ("", "otlp"):
        raise SettingsInvalid(
            f"OTEL_TRACES_EXPORTER is {exporter!r}, and spans are sent by OTLP only. Fix: set it to `otlp` or `none`."
        )
    for name in _PROTOCOLS:
        if env.get(name, "").strip() not in ("", _OTLP):
            raise SettingsInvalid(
                f"{name} is {env[name].strip()!r}, and spans are sent by {_OTLP} only. Fix: unset it, and name the "
                "collector's port for that (4318, where it has the usual ones)."
            )
    _require()
    return True


def prepare(env: Mapping[str, str]) -> None:
    """Before the fork: what is wrong with the environment ends the start, not the children; and they need not import
    the SDK one by one.

    Raises:
        SettingsInvalid: as for `wanted`.
    """
    if wanted(env):
        import orchestrator.observe.traces.spans  # noqa: F401


def _require() -> None:
    missing = [name for name in _NEEDED if not _is_there(name)]
    if missing:
        raise SettingsInvalid(
            "The environment asks for spans (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER), and OpenTelemetry's "
            "SDK is not installed. Fix: `pip install 'flow-orchestrator[otel]'`, or set OTEL_TRACES_EXPORTER=none."
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def _set_up_around_us() -> bool:
    """Asked without importing anything: whoever set one up has imported it."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return False
    provider = api.get_tracer_provider()
    return not isinstance(provider, api.ProxyTracerProvider) and not hasattr(provider, "is_orchestrators")


def begin(past: Past, instance: str, *, public: bool = False) -> "Spans | None":
    """Make spans of what happens in this process, if its environment, which the SDK reads too, asks for that.
    `instance` names the process; `public`: code of the user's runs in it, and makes spans of its own.

    Raises:
        SettingsInvalid: as for `wanted`.
    """
    if not wanted(os.environ):
        return None
    from orchestrator.observe.traces.otel import Provider, current_ids
    from orchestrator.observe.traces.spans import Spans

    correlation.span_ids = current_ids
    spans = Spans(Provider(instance, public=public), past)
    observer.listen(spans)
    incoming.decide_by(spans.provider)
    return spans


def end(spans: "Spans | None") -> None:
    """No more of them; what was made is sent."""
    if spans is not None:
        observer.unlisten(spans)
        incoming.decide_by(None)
        correlation.span_ids = None
        spans.provider.close()
