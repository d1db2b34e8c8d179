"""A manifest as a drawing: Mermaid, or a text tree."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.cli.inputs import types_of
from orchestrator.cli.render import length

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef


def mermaid(manifest: "Manifest") -> str:
    """A flowchart: steps are boxes, loops hold their body, arrows go from predecessor to successor."""
    ids = {key: f"s{number}" for number, key in enumerate(manifest.steps)}
    lines = ["flowchart TD"]
    for key, step in manifest.steps.items():
        if not step.is_loop:
            lines.append(f'    {ids[key]}["{_label(key, step)}"]')
            continue
        lines.append(f'    subgraph {ids[key]}["{_quote(key)}: for each"]')
        lines += [
            f'        {ids[key]}_{number}["{_label(child, body)}"]'
            for number, (child, body) in enumerate(step.steps.items())
        ]
        lines.append("    end")
    for key, step in manifest.steps.items():
        for before, statuses in step.run_after.items():
            accepted = "" if tuple(statuses) == ("succeeded",) else f"|{' or '.join(statuses)}|"
            lines.append(f"    {ids[before]} -->{accepted} {ids[key]}")
    return "\n".join(lines)


def _label(key: str, step: "StepDef") -> str:
    return _quote(key if step.type in (None, key) else f"{key}<br/>{step.type}")


def _quote(text: str) -> str:
    return text.replace('"', "#quot;")


def tree(manifest: "Manifest") -> str:
    """A line per step with what it waits for; the body of a loop is indented."""
    return "\n".join([f"{manifest.name}@{manifest.version}", *_lines(manifest.steps.items(), "  ")])


def _lines(steps: object, indent: str) -> Iterator[str]:
    for key, step in steps:  # type: ignore[attr-defined]
        yield f"{indent}{key}{_kind(key, step)}{_after(step)}{_options(step)}"
        yield from _lines(step.steps.items(), indent + "  ")


def _kind(key: str, step: "StepDef") -> str:
    if step.is_loop:
        window = f", {step.concurrency} at a time" if step.concurrency else ""
        return f" (for each{window})"
    return "" if step.type == key else f" ({step.type})"


def _after(step: "StepDef") -> str:
    named = [
        key if tuple(statuses) == ("succeeded",) else f"{key} ({' or '.join(statuses)})"
        for key, statuses in step.run_after.items()
    ]
    return f"  <- {', '.join(named)}" if named else ""


def _options(step: "StepDef") -> str:
    found = [
        f"queue {step.queue}" if step.queue else "",
        f"up to {step.retry.max_attempts} attempts" if step.retry and step.retry.max_attempts > 1 else "",
        f"timeout {length(step.timeout)}" if step.timeout else "",
        "transactional" if step.transactional else "",
    ]
    said = ", ".join(part for part in found if part)
    return f"  [{said}]" if said else ""


def parameters(manifest: "Manifest") -> list[tuple[object, ...]]:
    """Name, type, required, default of each input."""
    schema = manifest.input_schema
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    names = required if isinstance(required, list) else []
    return [
        (name, " or ".join(sorted(types_of(part, schema))) or "any", name in names, _default(part))
        for name, part in properties.items()
    ]


def _default(part: object) -> str:
    from orchestrator.cli.runview import brief

    return brief(part["default"], 60) if isinstance(part, dict) and "default" in part else ""
