"""Check the models with Spin: what must hold holds, mutants break what they must, each model gets everywhere."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
INSTALL: Final = "install Spin 6 and a C compiler (Debian: `apt-get install spin gcc`)"
LIVENESS: Final = frozenset({"ends"})
"""Needs fair histories; the others are safety."""


@dataclass(frozen=True)
class Check:
    """One property, on a model as it is or on a mutant of it."""

    formula: str
    holds: bool
    flags: tuple[str, ...] = ()
    model: str = "ledger"

    @property
    def name(self) -> str:
        return " ".join((self.model, self.formula, *self.flags))


@dataclass(frozen=True)
class Result:
    """What Spin found, over how many states."""

    holds: bool
    states: int
    seconds: float


def _mutant(name: str, formula: str, *flags: str, model: str = "ledger") -> Check:
    return Check(formula, False, (name, *flags), model)


def _waits(name: str, formula: str) -> Check:
    return _mutant(name, formula, model="waits")


RIGHT: Final = (
    Check("safe", True),
    Check("safe", True, ("FAULTS=2", "RETRIES=0")),
    Check("ends", True, ("CANCELS=0",)),
    Check("ends", True, ("RETRIES=0",)),
    Check("safe", True, model="waits"),
    Check("ends", True, model="waits"),
    Check("safe", True, ("CANCELS=2", "RETRIES=2"), "waits"),
)
DEEP: Final = (
    Check("safe", True, ("FAULTS=2",)),
    Check("safe", True, ("FAULTS=3", "RETRIES=0")),
    Check("ends", True),
    Check("ends", True, ("FAULTS=2", "RETRIES=0")),
    Check("ends", True, ("CANCELS=2", "RETRIES=2"), "waits"),
)
MUTANTS: Final = (
    _mutant("NO_FENCE", "takes_no_late_result"),
    _mutant("FENCE_BY_OWNER", "takes_no_late_result"),
    _mutant("CLAIM_RUNNING", "steals_nothing"),
    _mutant("ANY_NUMBER", "takes_its_own"),
    _mutant("JOIN_READ", "counts_right"),
    _mutant("JOIN_READ", "ends", "CANCELS=0"),
    _mutant("UNFENCED_RELEASE", "steals_nothing", "FAULTS=2"),
    _mutant("RELEASE_NO_HALT", "ends", "RETRIES=0"),
    _mutant("SWEEP_NO_VERSION", "steals_nothing"),
    _mutant("SWEEP_NOT_ASKED_AGAIN", "steals_nothing"),
    _mutant("SWEEP_NO_HALT", "ends", "RETRIES=0"),
    _mutant("CANCEL_WEAK", "ends", "RETRIES=0"),
    _mutant("HALTED_NO_LOCK", "ends", "RETRIES=0"),
    _mutant("NO_RECLAIM", "ends", "CANCELS=0"),
    _mutant("NO_REDISPATCH", "ends", "CANCELS=0"),
    _mutant("NO_TIMER", "ends", "CANCELS=0"),
    _waits("OPEN_NO_LOCK", "misses_nothing"),
    _waits("DELIVER_NO_LOCK", "takes_once"),
    _waits("DELIVER_LATE", "takes_before_it"),
    _waits("TAKE_AGAIN", "takes_once"),
    _waits("WAKE_NOT_ASKED_AGAIN", "wakes_on_time"),
    _waits("PARK_KEEPS_TIME", "wakes_on_time"),
    _waits("PASS_BY_FOR_GOOD", "ends"),
    _waits("CANCEL_NO_LOCK", "ends"),
    _waits("CANCEL_LEAVES_WAITS", "parks_nothing_stopped"),
    _waits("RETRY_OPENS_NOTHING", "ends"),
    _waits("NO_WAKE", "ends"),
)
SURVIVOR: Final = Check("safe", True, ("CLAIM_NO_LOCK",))
"""The one mutant that breaks nothing here; docs/reliability.md says what its lock is for."""
PLACES: Final = ("STALE", "CHAINED", "RETRIED", "REVIVED", "RESENT", "SWEPT", "HALTED_END")
PLACES_OF_WAITS: Final = (
    "TOOK_KEPT",
    "DUPLICATE",
    "PASSED_BY",
    "STALE_WAKE",
    "ENDED_BY_SENDER",
    "WENT_ON",
    "CANCELLED_PARKED",
    "PARKED_AGAIN",
)
REACHED: Final = tuple(Check("unreached", False, (f"REACH={place}",)) for place in PLACES)
FURTHER: Final = (
    _waits("OPEN_NO_LOCK", "ends"),
    _waits("DELIVER_NO_LOCK", "misses_nothing"),
    _waits("DELIVER_NO_LOCK", "ends_waits_once"),
    _waits("WAKE_NOT_ASKED_AGAIN", "ends_waits_once"),
    *(Check("unreached", False, (f"REACH={place}",), "waits") for place in PLACES_OF_WAITS),
)
"""What else the mutants of waits break, and where that model gets."""
EVERYTHING: Final = (*RIGHT, *MUTANTS, SURVIVOR, *REACHED, *FURTHER)


def missing() -> str | None:
    """What to do when the model cannot be checked here."""
    absent = [program for program in ("spin", "cc") if shutil.which(program) is None]
    return f"{' and '.join(absent)} not found. Fix: {INSTALL}." if absent else None


def run(check: Check, *, limit_s: float = 1800) -> Result:
    """Compile the checker of one property and run it.

    Raises:
        RuntimeError: Spin or the compiler failed, or the search was cut short.
    """
    live = check.formula in LIVENESS
    with tempfile.TemporaryDirectory(prefix="spin-") as folder:
        _do(folder, "spin", "-a", *(f"-D{flag}" for flag in check.flags), str(HERE / f"{check.model}.pml"))
        optimise = "-O2" if check.holds else "-O0"  # what is broken is found sooner than the compiler optimises
        _do(folder, "cc", "-w", optimise, "-DCOLLAPSE", "-DNFAIR=4" if live else "-DSAFETY", "-o", "pan", "pan.c")
        fair = ("-a", "-f") if live else ()
        out = _do(folder, "./pan", "-m1000000", *fair, "-N", check.formula, limit_s=limit_s)
    return _read(check, out)


def _do(folder: str, *command: str, limit_s: float = 120) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _read(check: Check, out: str) -> Result:
    errors = re.search(r"errors: (\d+)", out)
    states = re.search(r"^\s*(\d+) states, stored", out, re.MULTILINE)
    seconds = re.search(r"elapsed time ([\d.e+]+) seconds", out)
    if errors is None or states is None or seconds is None or "max search depth too small" in out:
        raise RuntimeError(f"{check.name}: the search was not finished: {out}")
    return Result(errors[1] == "0", int(states[1]), float(seconds[1]))
