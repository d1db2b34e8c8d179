"""Flows over HTTP."""

from dataclasses import asdict
from typing import Any

from pydantic import JsonValue

from orchestrator.client.groups.flows import Deployed, OpenStep
from orchestrator.client.groups.group import By
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group
from orchestrator.client.remote.transport import Ask, part
from orchestrator.core.manifest import Manifest
from orchestrator.ledger.reads.flows import Reader
from orchestrator.ledger.reads.rows import FlowRow, VersionRow


class HttpFlows(Group):
    """As `Flows`."""

    def listed(self) -> list[FlowRow]:
        """As `Flows.listed`."""
        return self._client.listed(FlowRow, "/flows", {}, None)

    def get(self, flow: str) -> FlowRow:
        """As `Flows.get`."""
        return self._client.transport.get(FlowRow, f"/flows/{part(flow)}")

    def manifest(self, manifest_hash: str) -> Manifest:
        """As `Flows.manifest`."""
        return Manifest.from_json(self._client.transport.text(f"/manifests/{part(manifest_hash)}"))

    def versions(self, flow: str) -> list[VersionRow]:
        """As `Flows.versions`."""
        return self._client.listed(VersionRow, f"/flows/{part(flow)}/versions", {}, None)

    def enable(self, flow: str, *, by: By = None) -> None:
        """As `Flows.enable`."""
        self._tell(f"/flows/{part(flow)}/enable", None, by)

    def disable(self, flow: str, *, reason: str | None = None, by: By = None) -> None:
        """As `Flows.disable`."""
        self._tell(f"/flows/{part(flow)}/disable", {"reason": reason}, by)

    def delete(self, flow: str, *, by: By = None) -> None:
        """As `Flows.delete`."""
        nobody_else(by)
        self._client.transport.ask(Ask("DELETE", f"/flows/{part(flow)}"))

    def deploy(self, manifest: Manifest, *, by: By = None) -> Deployed:
        """As `Flows.deploy`."""
        plain = manifest.model_dump(mode="json", exclude_defaults=True)
        return self._deploy(manifest.name, {"manifest": plain}, by)

    def deploy_version(self, flow: str, ordinal: int, *, by: By = None) -> Deployed:
        """As `Flows.deploy_version`."""
        return self._deploy(flow, {"version": ordinal}, by)

    def open_steps(self, flow: str) -> list[OpenStep]:
        """As `Flows.open_steps`."""
        return self._client.listed(OpenStep, f"/flows/{part(flow)}/open-steps", {}, None)

    def given_outputs(self, by: Reader, limit: int) -> tuple[list[JsonValue], int]:
        """As `Flows.given_outputs`. What has a secret in it is one of those that cannot be read."""
        asked = {name: value for name, value in asdict(by).items() if name != "flow"}
        path = f"/flows/{part(by.flow)}/given-outputs"
        found: dict[str, Any] = self._client.transport.get(dict[str, Any], path, {**asked, "limit": limit})
        return found["values"], found["left"]

    def _deploy(self, flow: str, what: dict[str, Any], by: By) -> Deployed:
        nobody_else(by)
        return self._client.transport.post(Deployed, f"/flows/{part(flow)}/deploy", what)
