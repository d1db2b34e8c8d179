"""The flows that `orchestrator dev` serves, loaded before anything is started: a mistake is reported at once."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import DiscoveryError


def names(sources: tuple[str, ...], env: Mapping[str, str], here: Path) -> tuple[str, ...] | None:
    """The names of the flows; None when only a worker can tell, for a module may want the servers when it is loaded.

    In a process of its own: whatever a user's module does while it is loaded (end, crash, start threads) does not
    happen to us.

    Raises:
        DiscoveryError: a flow cannot be loaded.
    """
    program = [sys.executable, "-P", "-m", "orchestrator.authoring.names", *sources]
    done = subprocess.run(program, env=dict(env), cwd=here, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        shown = ", ".join(sources) or "the entry points"
        raise DiscoveryError(
            f"Python ended with {done.returncode} while it loaded {shown}. Fix: see above what the module does."
        )
    said = json.loads(done.stdout)
    if said["error"] is None:
        return tuple(said["flows"])
    if said["certain"]:
        raise DiscoveryError(said["error"])
    return None
