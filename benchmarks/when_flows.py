"""A chain whose steps ask the one before, and the same without."""

from benchmarks.flows import chain, fifth, first, fourth, second, third
from orchestrator import Flow
from orchestrator.core.manifest import Manifest

__all__ = ["asked", "chain"]

_KEYS = ("first", "second", "third", "fourth", "fifth")


def _step(key: str, before: str | None) -> dict[str, object]:
    if before is None:
        return {"type": key, "inputs": {"value": "@triggerBody().value"}}
    given = f"@steps('{before}').output"
    return {"type": key, "inputs": {"value": given}, "when": f"{given} > -1"}


asked = Flow.from_manifest(
    Manifest(
        name="asked",
        steps={key: _step(key, before) for key, before in zip(_KEYS, (None, *_KEYS), strict=False)},
        output="@steps('fifth').output",
    ),
    [first, second, third, fourth, fifth],
)
"""As `chain`, each step but the first only if the one before gave a number that is not negative."""
