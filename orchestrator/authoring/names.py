"""`python -m orchestrator.authoring.names MODULE …`: which flows there are, or why they cannot be loaded, as JSON."""

import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import Final, TypedDict

from orchestrator.authoring.discovery import load_flows
from orchestrator.errors import DiscoveryError, OrchestratorError

_OF_THE_CODE: Final = (OrchestratorError, ImportError, SyntaxError, NameError, TypeError, AttributeError, SystemExit)


class Names(TypedDict):
    """`certain`: the error is one of the code, whatever servers there are."""

    flows: list[str]
    error: str | None
    certain: bool


def names(sources: Iterable[str]) -> Names:
    try:
        return {"flows": sorted(load_flows(sources)), "error": None, "certain": True}
    except DiscoveryError as exc:
        certain = exc.__cause__ is None or isinstance(exc.__cause__, _OF_THE_CODE)
        return {"flows": [], "error": exc.message, "certain": certain}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # whatever the modules print
        said = names(sys.argv[1:])
    print(json.dumps(said))
