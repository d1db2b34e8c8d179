"""One schedule over HTTP."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.transport import part
from orchestrator.client.schedule_handle import Moment
from orchestrator.core.facts import Explanation
from orchestrator.core.timing.notes import Fire
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.ledger.reads.rows import EventRow
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow

if TYPE_CHECKING:
    from orchestrator.client.remote.client import HttpClient


class HttpScheduleHandle:
    """As `ScheduleHandle`. Whoever has the API key is the author of what is changed."""

    def __init__(self, client: "HttpClient", flow: str, key: str) -> None:
        self.client = client
        self.flow = flow
        self.key = key
        self._path = f"/schedules/{part(flow)}/{part(key)}"

    def __repr__(self) -> str:
        return f"<schedule {self.flow}/{self.key}>"

    def row(self) -> ScheduleRow:
        """As `ScheduleHandle.row`."""
        return self.client.get(ScheduleRow, self._path)

    def lag(self) -> Lag:
        """As `ScheduleHandle.lag`."""
        return self.client.get(Lag, f"{self._path}/lag")

    def explain(self) -> Explanation:
        """As `ScheduleHandle.explain`."""
        return self.client.get(Explanation, f"{self._path}/explain")

    def preview(self, count: int = 10) -> list[Fire]:
        """As `ScheduleHandle.preview`."""
        return self.client.listed(Fire, f"{self._path}/preview", {"count": count}, None)

    def history(self, limit: int = 50) -> list[TickRow]:
        """As `ScheduleHandle.history`."""
        return self.client.listed(TickRow, f"{self._path}/history", {"limit": limit}, None)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `ScheduleHandle.events`."""
        return self.client.listed(EventRow, f"{self._path}/events", {"after": after, "limit": limit}, None)

    def pause(self, reason: str = "") -> None:
        """As `ScheduleHandle.pause`."""
        self._do("POST", "pause", {"reason": reason or None})

    def resume(self) -> None:
        """As `ScheduleHandle.resume`."""
        self._do("POST", "resume")

    def trigger(self) -> HttpRunHandle[Any]:
        """As `ScheduleHandle.trigger`."""
        done = self._do("POST", "trigger")
        return HttpRunHandle(self.client, UUID(done["id"]), created=True)

    def set_cron(self, expression: str, *, zone: str | None = None) -> None:
        """As `ScheduleHandle.set_cron`. Of two who change it at once, the last one stands."""
        headers = {"If-Match": "*"}
        self.client.transport.tell("PUT", f"{self._path}/cron", {"cron": expression, "zone": zone}, headers)

    def reset(self) -> None:
        """As `ScheduleHandle.reset`."""
        self._do("DELETE", "cron")

    def backfill(
        self,
        since: Moment,
        until: Moment,
        *,
        max_parallel: int = 1,
        reverse: bool = False,
        dry_run: bool = False,
    ) -> Backfill:
        """As `ScheduleHandle.backfill`."""
        span = {"since": str(since), "until": str(until), "max_parallel": max_parallel}
        span |= {"reverse": reverse, "dry_run": dry_run}
        return self.client.send(Backfill, "POST", f"{self._path}/backfill", span)

    def cancel_backfill(self, backfill_id: UUID) -> int:
        """As `ScheduleHandle.cancel_backfill`."""
        return int(self._do("POST", f"backfill/{backfill_id}/cancel")["count"])

    def _do(self, method: str, what: str, body: object = None) -> Any:
        return self.client.send(dict[str, Any], method, f"{self._path}/{what}", body)
