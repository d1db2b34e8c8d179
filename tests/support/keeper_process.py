"""A real keeper in a process of its own."""

import os
from collections.abc import Mapping
from pathlib import Path

from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.nursery import Forked, Nursery
from tests.support.worker_process import env_of


def main(options: Mapping[str, object]) -> int:
    """What the process runs: `run_keeper` with settings from the environment."""
    from orchestrator.workers.process.keeper import run_keeper

    return run_keeper(Settings.from_env(os.environ))


class ForkedKeeper(Forked):
    """Out of a nursery."""

    entry = "tests.support.keeper_process:main"

    def __init__(self, nursery: Nursery, settings: Settings, folder: Path, *, name: str = "keeper") -> None:
        super().__init__(nursery, settings, "", folder, name=name)
        self._env = env_of(settings)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until its threads run."""

        def check() -> bool:
            if not self.alive:
                raise RuntimeError(f"The keeper ended:\n{self.tail()}")
            return "keeper.starts" in self.log()

        eventually(check, timeout=timeout, message="the keeper is ready")
