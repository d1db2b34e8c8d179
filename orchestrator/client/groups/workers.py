"""The processes that serve flows, and the queues they take from."""

from dataclasses import asdict, dataclass

from orchestrator.client.groups.group import By, Group, actor
from orchestrator.core.releases import Rollout, judged
from orchestrator.core.scaling import Scaling, needed
from orchestrator.core.wording import listed
from orchestrator.engine import workers as registry
from orchestrator.errors import ScalingGroupNotFound
from orchestrator.ledger import reads, releases, scaling
from orchestrator.ledger.reads.queues import QueueRow
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow
from orchestrator.ledger.workers import Target
from orchestrator.servers.depths import depths
from orchestrator.settings import variable


@dataclass(frozen=True, slots=True)
class Queue(QueueRow):
    """`messages`: how many lie in the broker for it, hints of what is ready; None: that does not answer."""

    messages: int | None


class Workers(Group):
    """Worker processes."""

    def listed(self) -> list[WorkerRow]:
        """Those that the ledger knows; `live` ones were seen lately."""
        return self._client.call(reads.workers.every, self._client.settings.worker_ttl)

    def drain(self, target: str, *, undo: bool = False, by: By = None) -> list[WorkerRow]:
        """Tell live processes to stop, by the id of one, their host, the release of their code or their scaling group,
        and give their rows: each begins when it next says that it is there, within a third of
        `ORCHESTRATOR_WORKER_TTL`. With `undo` those that have not begun go on.

        Raises:
            WorkerNotFound: no live one is called so.
            Conflict: all of them have begun to stop.
        """
        change = registry.undrain if undo else registry.drain
        settings = self._client.settings
        group = settings.scaling_groups.get(target)
        meant = Target(target, group.queues if group is not None else ())
        ids = self._client.call(change, meant, actor(by), settings.worker_ttl)
        return [row for row in self.listed() if row.id in ids]

    def unserved(self) -> list[UnservedRow]:
        """Tasks whose ready steps no live worker takes."""
        return list(self._client.call(reads.workers.unserved, self._client.settings.worker_ttl))

    def releases(self) -> Rollout:
        """The releases that live workers are of, and what needs them."""
        wanted = self._client.call(releases.wanted)
        return judged([row for row in self.listed() if row.live and not row.is_keeper], wanted)

    def queues(self) -> list[Queue]:
        """Queues that have steps or workers. While the broker does not answer, this does within some seconds."""
        rows = self._client.call(reads.queues.every, self._client.settings.worker_ttl)
        found = depths(self._client.settings, [row.queue for row in rows])
        return [Queue(**asdict(row), messages=None if found is None else found[row.queue]) for row in rows]

    def scaling(self, group: str = "default") -> Scaling:
        """How many workers a group of the settings (`scaling_groups`) needs now.

        Raises:
            ScalingGroupNotFound: there is none of that name.
        """
        groups = self._client.settings.scaling_groups
        found = groups.get(group)
        if found is None:
            raise ScalingGroupNotFound(
                f"There is no scaling group {group!r}{f', but {listed(sorted(groups))}' if groups else ''}. Fix: set "
                f"{variable('scaling_groups')}="
                f"""'{{"{group}": {{"queues": ["default"], "slots": 4, "max": 20}}}}' for whoever answers.""",
                group=group,
            )
        return needed(group, found, self._client.call(scaling.load, found))
