"""What is registered."""

from dataclasses import dataclass
from typing import Self

from pydantic import JsonValue

from orchestrator.client.given import whoami
from orchestrator.client.groups.group import By, Group, actor, name_of
from orchestrator.core.manifest import Manifest
from orchestrator.engine.flows import delete_flow, register, switch
from orchestrator.engine.flows.register import Registered
from orchestrator.ledger import reads
from orchestrator.ledger.reads.flows import Reader
from orchestrator.ledger.reads.rows import FlowRow, VersionRow
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Deployed:
    """The version that is the current one now. `before` is the ordinal of the one that it replaced."""

    ordinal: int | None
    changed: bool
    before: int | None

    @classmethod
    def of(cls, done: Registered) -> Self:
        return cls(done.ordinal, done.changed, done.before)


@dataclass(frozen=True, slots=True)
class OpenStep:
    """How many open runs of a version have yet to end a step."""

    manifest_hash: str
    step: str
    runs: int


class Flows(Group):
    """Registered flows and their versions."""

    def listed(self) -> list[FlowRow]:
        """All, by name."""
        return self._client.call(reads.flows.every)

    def get(self, flow: str) -> FlowRow:
        """A flow at its current version.

        Raises:
            FlowNotFound: there is none.
        """
        return self._client.call(reads.flows.get, flow)

    def manifest(self, manifest_hash: str) -> Manifest:
        """A version by its hash.

        Raises:
            ManifestUnreadable: a newer release wrote it.
        """
        return self._client.call(Ledger.manifest, manifest_hash)

    def versions(self, flow: str) -> list[VersionRow]:
        """Its versions, in the order in which they were first registered.

        Raises:
            FlowNotFound: there is none.
        """
        return self._client.call(reads.flows.versions, flow)

    def enable(self, flow: str, *, by: By = None) -> None:
        """Accept triggers of it again.

        Raises:
            FlowNotFound: there is none.
        """
        self._client.call(switch.enable, flow, actor(by))

    def disable(self, flow: str, *, reason: str | None = None, by: By = None) -> None:
        """Refuse every trigger of it; runs in flight go on.

        Raises:
            FlowNotFound: there is none.
        """
        self._client.call(switch.disable, flow, actor(by), reason)

    def delete(self, flow: str, *, by: By = None) -> None:
        """See `Client.delete_flow`."""
        self._client.call(delete_flow.delete, flow, name_of(by), self._client.settings.worker_ttl)

    def deploy(self, manifest: Manifest, *, by: By = None) -> Deployed:
        """Make a version the current one of its flow, whatever was before.

        Raises:
            ManifestInvalid: a webhook of it has a scheme that is not known there.
            Conflict: another flow has the slug of one of its webhooks.
        """
        done = self._client.call(register.deploy, manifest, _whoami(by))
        self._client.publish(done.dispatches)
        return Deployed.of(done)

    def deploy_version(self, flow: str, ordinal: int, *, by: By = None) -> Deployed:
        """Make an earlier version of a flow the current one.

        Raises:
            FlowNotFound, NotFound: no such flow or version.
            ManifestUnreadable: a newer release wrote that version.
        """
        done = self._client.call(register.deploy_version, flow, ordinal, _whoami(by))
        self._client.publish(done.dispatches)
        return Deployed.of(done)

    def open_steps(self, flow: str) -> list[OpenStep]:
        """Which steps open runs have yet to end, by version."""
        found = self._client.call(reads.flows.open_steps, flow)
        return [OpenStep(version, step, runs) for (version, step), runs in sorted(found.items())]

    def given_outputs(self, by: Reader, limit: int) -> tuple[list[JsonValue], int]:
        """What a step gave in open runs that have yet to end the one that reads it; and how many more there are that
        cannot be read here."""
        return self._client.call(reads.flows.given_outputs, by, limit)


def _whoami(by: By) -> str:
    return whoami(None if by is None else name_of(by))
