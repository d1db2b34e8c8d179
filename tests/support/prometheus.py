"""Prometheus and Alertmanager of the machine, started for a test; what they say, and whom they tell."""

import json
import os
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from orchestrator.servers.embedded.server import free_port
from tests.support.eventually import eventually

_PACKAGES: Final = {"amtool": "prometheus-alertmanager", "prometheus-alertmanager": "prometheus-alertmanager"}


def needed(program: str) -> str:
    """The program. Without it a test is skipped here and fails in CI."""
    found = shutil.which(program)
    if found is not None:
        return found
    message = f"{program} is not installed. Install it: apt-get install {_PACKAGES.get(program, 'prometheus')}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def run(program: str, *arguments: str | Path) -> str:
    """What it says; it has to end well."""
    done = subprocess.run(
        [needed(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Notice:
    """Of one alert, as Alertmanager posts it."""

    alert: str
    status: str
    labels: Mapping[str, str]


class Receiver:
    """Takes what Alertmanager posts."""

    def __init__(self) -> None:
        notices: list[Notice] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for one in told["alerts"]:
                    notices.append(Notice(one["labels"]["alertname"], one["status"], one["labels"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.notices = notices
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def statuses(self, alert: str, labels: Mapping[str, str], first: int = 0) -> list[str]:
        """What was told of an alert with these labels, in order, from the notice of that number on."""
        of_all = (notice for notice in self.notices[first:] if notice.alert == alert)
        return [notice.status for notice in of_all if labels.items() <= notice.labels.items()]

    def open(self) -> set[str]:
        """Alerts that were told as firing, and not as resolved since."""
        last = {(notice.alert, *sorted(notice.labels.items())): notice for notice in list(self.notices)}
        return {notice.alert for notice in last.values() if notice.status == "firing"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str) -> list[Any]:
        """The series that it gives now.

        Raises:
            AssertionError: it is an error.
        """
        return list(self._asked(f"/query?{urllib.parse.urlencode({'query': expression})}")["result"])

    def firing(self) -> set[str]:
        return {one["labels"]["alertname"] for one in self._asked("/alerts")["alerts"] if one["state"] == "firing"}

    def targets(self) -> dict[str, str]:
        """Health by job."""
        return {one["labels"]["job"]: one["health"] for one in self._asked("/targets")["activeTargets"]}

    def ready(self) -> bool:
        with suppress(OSError):
            self.query("1")
            return True
        return False

    def _asked(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self._url + path, timeout=20) as answer:
                told = json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{path}: {exc.read().decode()}") from exc
        assert told["status"] == "success", told
        return told["data"]


@contextmanager
def alerting(
    folder: Path, rules: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Prometheus, Receiver]]:
    """A Prometheus with these rules and `scrape_configs`, every second, and an Alertmanager that tells the receiver at
    once."""
    receiver, port, manager, cluster = Receiver(), free_port(), free_port(), free_port()
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
        "scrape_configs": list(jobs),
    }
    told = {
        "route": {
            "receiver": "test",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "test", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}],
    }
    for name, value in (("prometheus.yaml", config), ("rules.yaml", rules), ("alertmanager.yaml", told)):
        (folder / name).write_text(yaml.safe_dump(value, sort_keys=False))
    commands = [
        [
            needed("prometheus"),
            f"--config.file={folder}/prometheus.yaml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
            "--rules.alert.resend-delay=1s",
        ],
        [
            needed("prometheus-alertmanager"),
            f"--config.file={folder}/alertmanager.yaml",
            f"--storage.path={folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{manager}",
            f"--cluster.listen-address=127.0.0.1:{cluster}",
        ],
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.log").open("wb") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        prometheus = Prometheus(port)
        eventually(prometheus.ready, message="Prometheus answers")
        yield prometheus, receiver
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
        receiver.close()
