"""What the compose file starts, started here: its commands, environment, health checks and order, on a server of the
tests."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator.client import Client
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.deploy.places import DEPLOY, ORCHESTRATOR, ROOT, compose
from tests.support.eventually import eventually

KEPT: Final = {"PATH", "HOME", "LANG", "TMPDIR"}
PORTS: Final = ("8000", "8081", "9464")


class Started:
    """A service of the file as a process of this machine: its secrets are in files of a folder, its ports are free
    ones."""

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.service: dict[str, Any] = compose()["services"][name]
        self.ports = {port: str(free_port()) for port in PORTS}
        secrets = {
            "database_url": settings.require_database_url(),
            "broker_url": settings.require_broker_url(),
            "signing_key": "0123456789abcdef0123456789abcdef",
        }
        for secret in self.service["secrets"]:
            (folder / secret).write_text(secrets[secret] + "\n")
        given = {key: _default(value, folder) for key, value in self.service["environment"].items()}
        image = {"ORCHESTRATOR_HEALTH_ADDRESS": f":{self.ports['8081']}", "ORCHESTRATOR_LOG_FORMAT": "json"}
        flows = {"ORCHESTRATOR_FLOWS": "tests.support.small_flows", "PYTHONPATH": str(ROOT)}
        kept = {key: value for key, value in os.environ.items() if key in KEPT}
        self.env = {**kept, **image, **given, **flows, "ORCHESTRATOR_KEY_PREFIX": settings.key_prefix}
        self.log = folder / f"{name}.log"
        command = [self._here(word) for word in self.service["command"]]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([ORCHESTRATOR, *command], env=self.env, cwd=folder, stdout=log, stderr=log)

    def _here(self, word: str) -> str:
        """With the free ports, and on this machine only."""
        word = re.sub(r"\b(8000|8081|9464)\b", lambda found: self.ports[found[0]], word)
        return word.replace("0.0.0.0", "127.0.0.1")

    def healthy(self) -> bool:
        """By the check of the file, or the image's own."""
        assert self.process.poll() is None, self.log.read_text()
        check = self.service.get("healthcheck", {}).get("test", ["CMD", "python", "/opt/orchestrator/healthcheck.py"])
        asked = [self._here(word) for word in check[3:]]
        command = [sys.executable, str(DEPLOY / "healthcheck.py"), *asked]
        return subprocess.run(command, env=self.env, check=False, capture_output=True).returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _default(value: str, folder: Path) -> str:
    """As compose has it where nobody says otherwise, with the secrets of the folder."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value).replace("/run/secrets/", f"{folder}/")


@pytest.fixture
def services(settings: Settings, tmp_path: Path) -> Iterator[dict[str, Started]]:
    """All that depend on the migration, after it."""
    with ExitStack() as stack:
        migrate = Started("migrate", settings, tmp_path)
        assert migrate.process.wait(60) == 0, migrate.log.read_text()
        found = {}
        for name in ("worker", "keeper", "beat", "api", "exporter"):
            found[name] = Started(name, settings, tmp_path)
            stack.callback(found[name].kill)
        yield found


def test_all_of_it_gets_healthy_runs_a_flow_and_stops(services: dict[str, Started], settings: Settings) -> None:
    for name, service in services.items():
        eventually(service.healthy, timeout=90, message=f"{name} is healthy")
    with Client(settings) as client:
        for canary in client.trials.smoke():
            assert client.run(canary.run_id).wait(60) == "succeeded"
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{services['exporter'].ports['9464']}/metrics", timeout=10)
    assert b"floworch_exporter_up 1" in metrics.read()
    assert {name: service.stop() for name, service in services.items()} == dict.fromkeys(services, 0)


def test_a_check_of_health_says_no_when_nobody_is_there(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/health/liveness"
    done = subprocess.run([sys.executable, str(DEPLOY / "healthcheck.py"), url], capture_output=True, check=False)
    assert done.returncode == 1
