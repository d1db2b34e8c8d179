"""Spans, by OpenTelemetry's SDK, where its own variables ask for them. Nothing here imports that but `otel`."""
