"""One schedule over HTTP."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator.client.given import at_least_one
from orchestrator.client.remote.access import HttpAccess, nobody_else
from orchestrator.client.remote.run import HttpRunHandle
from orchestrator.client.remote.transport import Ask, do, part, read
from orchestrator.client.schedule_handle import Moment, zone
from orchestrator.core.facts import Explanation
from orchestrator.core.timing.notes import Fire
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.ledger.reads.rows import EventRow
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow


class HttpScheduleHandle:
    """As `ScheduleHandle`. Whoever has the API key is the author of what is changed."""

    def __init__(self, client: HttpAccess, flow: str, key: str) -> None:
        self.client = client
        self.flow = flow
        self.key = key
        self._path = f"/schedules/{part(flow)}/{part(key)}"

    def __repr__(self) -> str:
        return f"<schedule {self.flow}/{self.key}>"

    def row(self) -> ScheduleRow:
        """As `ScheduleHandle.row`."""
        return self.client.transport.get(ScheduleRow, self._path)

    def lag(self) -> Lag:
        """As `ScheduleHandle.lag`."""
        return self.client.transport.get(Lag, f"{self._path}/lag")

    def explain(self) -> Explanation:
        """As `ScheduleHandle.explain`."""
        return self.client.transport.get(Explanation, f"{self._path}/explain")

    def preview(self, count: int = 10) -> list[Fire]:
        """As `ScheduleHandle.preview`."""
        return self.client.listed(Fire, f"{self._path}/preview", {"count": count}, None)

    def history(self, limit: int = 50) -> list[TickRow]:
        """As `ScheduleHandle.history`."""
        return self.client.listed(TickRow, f"{self._path}/history", {"limit": limit}, None)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `ScheduleHandle.events`."""
        return self.client.listed(EventRow, f"{self._path}/events", {"after": after}, at_least_one(limit))

    def pause(self, reason: str = "", *, by: str | None = None) -> None:
        """As `ScheduleHandle.pause`."""
        self._do("POST", "pause", by, {"reason": reason or None})

    def resume(self, *, by: str | None = None) -> None:
        """As `ScheduleHandle.resume`."""
        self._do("POST", "resume", by)

    def trigger(self, *, by: str | None = None) -> HttpRunHandle[Any]:
        """As `ScheduleHandle.trigger`."""
        done = self._do("POST", "trigger", by)
        return HttpRunHandle(self.client, UUID(done["id"]), created=True)

    def set_cron(self, expression: str, *, zone: str | None = None, by: str | None = None) -> None:
        """As `ScheduleHandle.set_cron`. Of two who change it at once, the last one stands."""
        self._do("PUT", "cron", by, {"cron": expression, "zone": zone}, {"If-Match": "*"})

    def reset(self, *, by: str | None = None) -> None:
        """As `ScheduleHandle.reset`."""
        self._do("DELETE", "cron", by)

    def backfill(
        self,
        since: Moment,
        until: Moment,
        *,
        max_parallel: int = 1,
        reverse: bool = False,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Backfill:
        """As `ScheduleHandle.backfill`."""
        nobody_else(by)
        span = {"since": str(since), "until": str(until), "max_parallel": max_parallel}
        span |= {"reverse": reverse, "dry_run": dry_run}
        return self.client.transport.post(Backfill, f"{self._path}/backfill", span, again=dry_run)

    def zone(self) -> str:
        """As `ScheduleHandle.zone`."""
        return zone(self.row())

    def cancel_backfill(self, backfill_id: UUID, *, by: str | None = None) -> int:
        """As `ScheduleHandle.cancel_backfill`."""
        return int(self._do("POST", f"backfill/{backfill_id}/cancel", by)["count"])

    def _do(
        self, method: str, what: str, by: str | None, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        nobody_else(by)
        path = f"{self._path}/{what}"
        ask = do(path, body) if method == "POST" else Ask(method, path, body=body, headers=headers or {})
        return read(dict[str, Any], self.client.transport.ask(ask))
