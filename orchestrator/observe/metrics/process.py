"""What a process and those below it use, asked of the system when somebody scrapes."""

from contextlib import suppress
from typing import Final

import psutil

from orchestrator.observe.metrics.instruments import Instruments
from orchestrator.observe.metrics.table import PROCESS_CHILDREN, PROCESS_CPU, PROCESS_MEMORY

_ROLES: Final = ("main", "children")


class ProcessUse:
    """Sets the metrics of the process that is scraped, before each scrape."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._counted: dict[tuple[str, str], float] = {}
        instruments.before_scrape(self.look)

    def look(self) -> None:
        """Now."""
        cpu, memory, children = self._used()
        for key, seconds in cpu.items():
            # Of a child that ends its time moves from it to what was waited for; in between it is in neither.
            grown = seconds - self._counted.get(key, 0.0)
            if grown > 0:
                self._counted[key] = seconds
                self._instruments.count(PROCESS_CPU, *key, by=grown)
        for role in _ROLES:
            self._instruments.set(PROCESS_MEMORY, role, value=memory[role])
        self._instruments.set(PROCESS_CHILDREN, value=children)

    def _used(self) -> tuple[dict[tuple[str, str], float], dict[str, float], int]:
        main = psutil.Process()  # not kept: a server may fork after it has loaded us
        with main.oneshot():
            times, resident = main.cpu_times(), main.memory_info().rss
        cpu = {("main", "user"): times.user, ("main", "system"): times.system}
        user, system = getattr(times, "children_user", 0.0), getattr(times, "children_system", 0.0)
        memory, count = 0.0, 0
        for child in main.children(recursive=True):
            with suppress(psutil.Error), child.oneshot():
                own = child.cpu_times()
                user, system = user + own.user, system + own.system
                memory += child.memory_info().rss
                count += 1
        cpu |= {("children", "user"): user, ("children", "system"): system}
        return cpu, {"main": float(resident), "children": memory}, count
