"""A collector of OpenTelemetry: takes what the SDK's exporter sends by OTLP over HTTP, and draws traces as text."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.eventually import eventually

ERROR = 2
CONSUMER = 5


@dataclass(frozen=True)
class Seen:
    """A span as it was sent."""

    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    kind: int
    is_error: bool
    facts: dict[str, Any]
    links: tuple[str, ...]
    resource: dict[str, Any]

    @property
    def title(self) -> str:
        """What it is about, without ids."""
        parts = [self.name, self.facts.get("floworch.step.key") or self.facts.get("floworch.flow", "")]
        if "floworch.attempt" in self.facts and self.name != "flow.step":
            parts.append(f"#{self.facts['floworch.attempt']}")
        if "floworch.outcome" in self.facts:
            parts.append(str(self.facts["floworch.outcome"]))
        return " ".join(part for part in parts if part) + (" ERROR" if self.is_error else "")


@dataclass
class Collector:
    """`url` is what OTEL_EXPORTER_OTLP_ENDPOINT names."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)

    def env(self, **more: str) -> dict[str, str]:
        """For a process whose spans come here soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100", **more}

    def of(self, name: str, **facts: object) -> list[Seen]:
        """Those with this name and these facts, without their prefix."""
        wanted = {f"floworch.{key.replace('__', '.')}": value for key, value in facts.items()}
        return [span for span in list(self.spans) if span.name == name and wanted.items() <= span.facts.items()]

    def tree(self, trace: str) -> str:
        """A trace, as text: what is below another is indented, in the order of its beginning; links stand behind."""
        spans = [span for span in list(self.spans) if span.trace == trace]
        ids = {span.id for span in spans}
        titles = {span.id: span.title for span in list(self.spans)}
        lines: list[str] = []

        def draw(span: Seen, depth: int) -> None:
            links = sorted(titles.get(link, f"nowhere {link}") for link in span.links)
            lines.append("  " * depth + span.title + "".join(f" <- {link}" for link in links))
            below = [one for one in spans if one.parent == span.id]
            for one in sorted(below, key=lambda one: (one.began, one.title)):
                draw(one, depth + 1)

        for span in sorted(spans, key=lambda one: (one.began, one.title)):
            if span.parent not in ids:
                draw(span, 0)
        return "\n".join(lines)

    def draws(self, trace: str, tree: str) -> None:
        """Wait until this trace looks like that; its first line and all others are indented alike."""
        wanted = "\n".join(line[4:] for line in tree.rstrip().splitlines() if line.strip())

        def looks() -> bool:
            return self.tree(trace) == wanted

        try:
            eventually(looks, timeout=20, message="the trace is complete")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.tree(trace)}\n--- is not\n{wanted}") from None
        ids = [span.id for span in self.spans if span.trace == trace]
        assert len(ids) == len(set(ids)), "each is sent once"


@contextmanager
def collecting() -> Iterator[Collector]:
    """One that listens while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.spans += _read(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _read(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            found += [_seen(span, _facts(resource.resource.attributes)) for span in scope.spans]
    return found


def _seen(span: Any, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        kind=span.kind,
        is_error=span.status.code == ERROR,
        facts=_facts(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        resource=resource,
    )


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
