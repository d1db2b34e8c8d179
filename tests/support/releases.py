"""Versions of a flow as the next releases write them."""

from collections.abc import Mapping
from typing import Any

from orchestrator.core.manifest import FORMAT, Manifest


class NewerManifest(Manifest):
    """With something in it that the release before cannot read."""

    @property
    def format(self) -> int:
        return FORMAT + 1


def newer(manifest: Mapping[str, Any], *, readable: bool, more: str = "news") -> Manifest:
    """The next version of a flow: each step has the parameter `more`. `readable`: by the release before."""
    steps = {key: _more(step, more) for key, step in manifest["steps"].items()}
    return (Manifest if readable else NewerManifest)(**{**manifest, "steps": steps})


def _more(step: Mapping[str, Any], more: str) -> dict[str, Any]:
    if "steps" in step:
        return {**step, "steps": {key: _more(one, more) for key, one in step["steps"].items()}}
    return {**step, "inputs": {**step["inputs"], "more": more}} if "type" in step else step
