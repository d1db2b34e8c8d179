"""Some of these tests once more, through PgBouncer; `make test-poolers` takes all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bouncer

HERE = Path(__file__).parent
FILES = {
    "session": ("test_start.py", "test_fence.py"),
    "transaction": ("test_start.py", "test_fence.py", "test_races.py", "test_versions.py", "test_signal_races.py"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", FILES)
def test_the_engine_does_the_same_through_a_pooler(request: pytest.FixtureRequest, mode: str) -> None:
    """In a process of its own: the lab that these tests share goes one way."""
    bouncer.needed()
    if request.config.getoption("--pooler"):
        return  # this is that process
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not soak", "--pooler", mode]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES[mode])], cwd=HERE.parents[1], capture_output=True, text=True
    )
    print(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
