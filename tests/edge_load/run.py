"""One load: two processes of the API, real workers, eight clients and a listener, and faults at seeded moments."""

import logging
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic_ns
from typing import Final

from tests.edge.flows import SMALL
from tests.edge.journal import Exchange
from tests.proof.checker import check
from tests.proof.history import History
from tests.proof.verdict import Verdict
from tests.soak.faults import KINDS, Kind
from tests.soak.field import Field, limits_of, open_field
from tests.soak.nemesis import Nemesis
from tests.soak.run import SERVERS

LIVENESS_S: Final = 30.0
DRAIN_S: Final = 120.0
STARTERS: Final = 4
PUBLISHERS: Final = 4
PAUSE_S: Final = 0.08
FAULTS: Final[Mapping[str, int]] = {
    "postgres-restart": 3,
    "broker-flush": 3,
    "api-kill": 6,
    "api-kill-all": 1,
    "api-link-swallow": 4,
}
"""How often each is done in a minute."""


@dataclass(frozen=True)
class Outcome:
    """A load that is over."""

    seed: int
    seconds: float
    history: History
    verdict: Verdict
    exchanges: Sequence[Exchange]
    span: tuple[int, int]
    """When clients were let in, and when they were told to stop."""
    drained_s: float

    @property
    def passed(self) -> bool:
        return not self.verdict.violations


def load(seed: int, seconds: float, keep: Path | None = None) -> Outcome:
    """Run it. With `keep`, logs and journals are copied there when something is wrong."""
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())
    with TemporaryDirectory(prefix="edge-", ignore_cleanup_errors=True) as folder:
        with open_field(seed, Path(folder), steady=0) as field:
            _man(field)
            field.open_crowd(STARTERS, PUBLISHERS, PAUSE_S, SMALL)
            assert field.crowd is not None
            began = monotonic_ns()
            Nemesis(field, LIVENESS_S).play(_script(seed, seconds), seconds)
            span = (began, monotonic_ns())
            field.close_load()
            drained_s = field.drain(DRAIN_S)
            history = field.history(limits_of(field.settings, LIVENESS_S))
            astray = [*field.astray(history)]
        verdict = check(history)
        verdict = replace(verdict, violations=(*verdict.violations, *astray))
        outcome = Outcome(seed, seconds, history, verdict, field.crowd.exchanges, span, drained_s)
        if keep is not None and not outcome.passed:
            shutil.copytree(folder, keep / f"edge-{seed}", ignore=SERVERS, dirs_exist_ok=True)
    return outcome


def _man(field: Field) -> None:
    """Workers of both pools, and two processes of the API."""
    field.add_post("prefork", 2)
    field.add_post("threads", 4)
    for _ in range(2):
        field.add_door()
    for process in (*(post.worker for post in field.posts), *(door.api for door in field.doors)):
        assert process is not None
        process.wait_ready()


def _script(seed: int, seconds: float) -> list[Kind]:
    """Of each kind at least one."""
    kinds = {kind.name: kind for kind in KINDS}
    found = [kinds[name] for name, count in FAULTS.items() for _ in range(max(1, round(count * seconds / 60)))]
    random.Random(f"script {seed}").shuffle(found)
    return found
