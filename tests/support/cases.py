"""Cases of one test, of which a few are enough for every day."""

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """All of them; those that are not `kept` run with the slow tests, of which CI leaves none out."""
    every = list(cases)
    assert all(one in every for one in kept), "what is kept is not among the cases"
    return [one if one in kept else _slow(one) for one in every]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
