"""A whole installation that is watched: workers, a beat, an exporter, an API, Prometheus and Alertmanager."""

import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from orchestrator.client import Client
from orchestrator.core.access import Actor, Grant, Role, Scope
from orchestrator.engine.access import keys
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.monitoring import files, flows
from tests.support.beat_process import BeatProcess
from tests.support.prometheus import Prometheus, Receiver, alerting
from tests.support.worker_process import WorkerProcess, env_of

FLOWS: Final = str(Path(flows.__file__))
RETENTION: Final = timedelta(hours=1)
QUEUES: Final = ("default", "lonely")
_SHORTER: Final = {
    "RetentionBehind": ("+ 7200", "+ 5"),
    "KeeperStalled": ("> 120", "> 15"),
    "CronLate": ("> 60", "> 20"),
}
"""Thresholds that are times."""


def shortened() -> dict[str, Any]:
    """The rules as they are shipped, for minutes that are seconds."""
    groups = files.groups()
    for group in groups:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
            rule["expr"] = re.sub(r"\[\d+[mh]\]", "[20s]", rule["expr"])
            if (change := _SHORTER.get(rule["alert"])) is not None:
                assert change[0] in rule["expr"], rule["alert"]
                rule["expr"] = rule["expr"].replace(*change)
    return {"groups": groups}


@dataclass
class Site:
    """What runs, and what is known of it."""

    settings: Settings
    folder: Path
    client: Client
    ports: list[int]
    stack: ExitStack
    prometheus: Prometheus = field(init=False)
    receiver: Receiver = field(init=False)
    api: str = field(init=False)
    key: str = field(init=False)
    """For everything."""
    _made: int = 0

    def worker(self, *, queues: tuple[str, ...] = ("default",), retention: timedelta | None = None) -> WorkerProcess:
        """Starts one more; two at most are scraped."""
        port = self.ports[self._made % 2]
        changed = self.settings.model_copy(update={"health_address": f"127.0.0.1:{port}", "retention": retention})
        made = WorkerProcess(changed, FLOWS, self.folder, queues=queues, name=f"w{self._made}")
        self._made += 1
        self.stack.callback(_ended, made)
        return made.start()

    def beat(self) -> BeatProcess:
        """Starts one."""
        made = BeatProcess(self.settings, self.folder, name=f"beat{self._made}")
        self._made += 2
        self.stack.callback(_ended, made)
        made.start()
        return made

    def run(self, name: str, times: int = 1) -> None:
        for number in range(times):
            self.client.start(name, number=number)

    def ask(self, path: str, body: bytes | None = None) -> None:
        """Of the API, whatever it answers."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with (
            suppress(urllib.error.HTTPError),
            urllib.request.urlopen(urllib.request.Request(self.api + path, body, headers), timeout=20),
        ):
            pass

    def command(self, *arguments: str, **env: str) -> str:
        """Runs an `orchestrator` that serves; its first line."""
        log = (self.folder / f"{arguments[0]}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            env=env_of(self.settings, **env),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.communicate()
            log.close()

        self.stack.callback(end)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.folder / f"{arguments[0]}.log").read_text()
        return line


def _ended(process: WorkerProcess) -> None:
    if process.started:
        with suppress(ProcessLookupError):
            process.kill()


@contextmanager
def site(db_url: str, broker_url: str, folder: Path) -> Iterator[Site]:
    """With everything but workers and beats."""
    settings = Settings(
        database_url=SecretStr(db_url),
        broker_url=SecretStr(broker_url),
        lease=timedelta(seconds=3),
        heartbeat=timedelta(seconds=1),
        worker_ttl=timedelta(seconds=5),
        beat_lock=timedelta(seconds=6),
        beat_interval=timedelta(seconds=1),
        metrics="keys",
    )
    ports = [free_port() for _ in range(4)]
    with Client(settings) as client, ExitStack() as stack:
        made = Site(settings, folder, client, ports[:2], stack)
        scraper = keys.create(
            client.ledger, "prometheus", Grant(Role.VIEWER, frozenset({Scope.METRICS})), Actor("test")
        )
        (folder / "key").write_text(scraper.text)
        made.key = keys.create(client.ledger, "all", Grant(Role.ADMIN), Actor("test")).text
        exporter, api = ports[2:]
        kept = f"PT{int(RETENTION.total_seconds())}S"
        made.command("exporter", "--address", f"127.0.0.1:{exporter}", ORCHESTRATOR_RETENTION=kept)
        made.command("api", "--port", str(api))
        made.api = f"http://127.0.0.1:{api}"
        jobs = [
            _job("floworch-worker", *made.ports),
            _job("floworch-exporter", exporter),
            {**_job("floworch-api", api), "authorization": {"credentials_file": f"{folder}/key"}},
        ]
        made.prometheus, made.receiver = stack.enter_context(alerting(folder, shortened(), jobs))
        yield made


def _job(name: str, *ports: int) -> Mapping[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
