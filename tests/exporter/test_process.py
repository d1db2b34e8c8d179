"""`orchestrator exporter` as it is run."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.settings import Settings
from tests.support.worker_process import env_of

pytestmark = pytest.mark.slow


@contextmanager
def exporting(settings: Settings, *options: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "exporter", *options],
        env=env_of(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_it_serves_until_it_is_told_to_stop(settings: Settings) -> None:
    with exporting(settings, "--address", "127.0.0.1:0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            body = answer.read().decode()
        assert "floworch_exporter_up 1.0" in body
        assert "floworch_beats_live 0.0" in body
        with urllib.request.urlopen(url.replace("/metrics", "/health/readiness"), timeout=10) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--address", "9464"], "'9464' cannot be used: it is not an address with a port. Fix: write :8081 for every"),
        (["--address", "127.0.0.1:99999"], "99999 is not a port"),
        (["--address", "203.0.113.7:0"], "203.0.113.7 is not an address of this machine. Fix:"),
    ],
)
def test_an_address_that_does_not_do_is_one_clear_error(settings: Settings, options: list[str], said: str) -> None:
    with exporting(settings, *options) as process:
        _, errors = process.communicate(timeout=30)
    assert said in errors
    assert "Traceback" not in errors
    assert process.returncode == 2
