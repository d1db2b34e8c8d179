"""What a nursery imports before it forks is there: a module that moved would end it before its first worker."""

import subprocess
import sys
from importlib.util import find_spec
from typing import cast

import psutil
import pytest

from tests.support.nursery import HEAVY, Forked, Nursery


@pytest.mark.parametrize("name", HEAVY)
def test_a_module_that_is_imported_beforehand_exists(name: str) -> None:
    assert find_spec(name) is not None


def test_a_worker_whose_number_somebody_else_has_is_gone_and_nobody_is_killed_for_it() -> None:
    """In a long soak on a busy machine the numbers of processes come round."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        worker = Forked.__new__(Forked)
        worker._nursery, worker._pid = cast(Nursery, None), other.pid
        worker._identity = psutil.Process(other.pid)
        assert worker.alive
        worker._identity._ident = (other.pid, 1.0)  # type: ignore[attr-defined]
        assert not worker.alive
        worker.kill()
        assert other.poll() is None
        other.communicate(b"\n")
        assert other.returncode == 0
