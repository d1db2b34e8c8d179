"""One soak: a field, a load, a nemesis, a drain, a verdict."""

import logging
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Final

import pytest

from orchestrator.delivery.publisher import Publisher
from orchestrator.ledger.tx import Ledger
from tests.edge.flows import SMALL
from tests.proof.checker import check
from tests.soak import constructs, mutants, releases, report
from tests.soak.faults import KINDS, Kind
from tests.soak.field import Field, limits_of, open_field
from tests.soak.load import headers_kept
from tests.soak.nemesis import Nemesis
from tests.soak.report import Outcome

LIVENESS_S: Final = 20.0
DRAIN_S: Final = 60.0
SERVERS: Final = shutil.ignore_patterns("postgres", "valkey")
"""Folders that are not kept."""
OPEN_RUNS: Final = 8
"""Of each of two clients."""
CROWD: Final = (2, 4)
"""Clients that start by HTTP, and publishers of webhooks."""
PAUSES_S: Final = (2.5, 0.3)
"""Between two acts of one of them; the second one where nothing else is started."""
FEW_RUNS: Final = 2
"""Where they start long ones alone: each finds a place at once."""


def soak(
    seed: int,
    minutes: float,
    keep: Path | None = None,
    *,
    liveness_s: float = LIVENESS_S,
    mutant: str | None = None,
    steady: int = 1,
    clients: int = 2,
    kinds: Sequence[Kind] = (),
    flows: Sequence[str] = (),
    pooler: str = "session",
    **changes: Any,
) -> Outcome:
    """Run it. With `keep`, the logs of the workers and the effects are copied there when something is wrong.

    `liveness_s`: nothing that can go on waits longer in a quiet window, behind the load's own backlog included.
    `mutant`: how its workers, and its clients, are broken; then the faults are those that it cannot stand, and there
    are no schedules. `steady`: how many schedules fire each second. `kinds`: only these faults. `flows`: clients start
    only these. `pooler`: its mode; see `Field`. `changes` are settings.
    """
    clock = _Phases()
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())
    rng = random.Random(f"soak {seed}")
    changes = {"ack_emulation": rng.random() < 0.3, **changes}
    shipped = releases.RELEASES
    if mutant is not None:
        steady, kinds, flows, shipped = 0, _kinds(mutant), mutants.LOADS.get(mutant, ()), shipped[:1]
    with TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        with (
            pytest.MonkeyPatch.context() as patched,
            open_field(seed, Path(folder), steady=steady, pooler=pooler, **changes) as field,
            _broken(field, mutant),
        ):
            field.releases = shipped
            releases.read_newer(patched)
            _man(field, rng, schedules=steady > 0, doors=clients > 0)
            for _ in range(clients):
                field.open_load(FEW_RUNS if flows else OPEN_RUNS, flows)
            if clients and not flows:
                field.open_people()
            if clients and (not flows or flows == mutants.EDGE):
                field.open_crowd(*CROWD, PAUSES_S[bool(flows)], flows or SMALL)
            clock.over("set up")
            Nemesis(field, liveness_s, kinds or KINDS).torment(monotonic() + minutes * 60)
            clock.over("faults")
            field.close_load()
            field.drain(DRAIN_S)
            clock.over("drain")
            history = field.history(limits_of(field.settings, liveness_s))
            astray = [*field.astray(history)]
            clock.over("read")
        verdict = check(history)
        more = [*releases.trespasses(history, field.plans, field.posted), *headers_kept(history), *astray]
        if field.people is not None and minutes >= constructs.ENOUGH_MINUTES and mutant is None:
            more += constructs.never_played(history)
        verdict = replace(verdict, violations=(*verdict.violations, *more))
        clock.over("check")
        outcome = Outcome(seed, minutes, history, verdict, clock.seconds, pooler)
        if keep is not None and not outcome.passed:
            shutil.copytree(folder, keep / f"seed-{seed}", ignore=SERVERS, dirs_exist_ok=True)
            (keep / f"seed-{seed}" / "wronged.txt").write_text(report.wronged(outcome))
    return outcome


class _Phases:
    """How long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = monotonic()

    def over(self, name: str) -> None:
        now = monotonic()
        self.seconds[name] = now - self._since
        self._since = now


def _kinds(mutant: str) -> list[Kind]:
    wanted = mutants.FAULTS[mutant]
    return [kind for kind in KINDS if not wanted or kind.name in wanted]


@contextmanager
def _broken(field: Field, mutant: str | None) -> Iterator[None]:
    """What the workers load breaks them; clients live in this process, and the clock in the database."""
    if mutant is None:
        yield
        return
    field.env[mutants.VARIABLE] = mutant
    if mutant == mutants.STALE_CLOCK:
        mutants.stop_clock(field.url)
    ledger = Ledger.connect(field.url, name="soak")
    mutants.publish[:] = [Publisher(None, field.settings, ledger).publish]
    with pytest.MonkeyPatch.context() as patched:
        mutants.apply(mutant, patched)
        try:
            yield
        finally:
            field.close_load()
            mutants.publish.clear()
            ledger.close()


def _man(field: Field, rng: random.Random, *, schedules: bool, doors: bool) -> None:
    """Two or three workers of both pools; with clients two processes of the API; with schedules two beats and an
    operator."""
    field.add_post("prefork", 2)
    field.add_post("threads", 4)
    if rng.random() < 0.4:
        field.add_post("prefork", 1)
    for _ in range(2 if doors else 0):
        field.add_door()
    for post in field.posts:
        assert post.worker is not None
        post.worker.wait_ready()
    for door in field.doors:
        assert door.api is not None
        door.api.wait_ready()
    if schedules:
        for _ in range(2):
            field.add_beat()
        field.open_operators()
