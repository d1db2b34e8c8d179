"""Files are read by the programs that they are for, or by their schemas and linters."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.places import DEPLOY, ORCHESTRATOR, compose, program

OURS = [name for name, service in compose()["services"].items() if service.get("image", "").startswith("${ORCH")]


def read_by(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_fault() -> None:
    read_by(program("hadolint"), "--failure-threshold", "warning", str(DEPLOY / "Dockerfile"))


def test_the_image_runs_as_nobody_in_particular_with_an_init() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    last = text.rpartition("FROM ")[2]
    assert "USER 10001:10001" in last
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "orchestrator"]' in last
    assert not re.search(r"embedded|\bdev\b", text.partition("pip install")[2].partition("\n")[0])
    assert not re.search(r"gcc|build-essential|libpq-dev", text)


def test_the_compose_file_fits_its_schema() -> None:
    check = program("check-jsonschema")
    read_by(check, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml"))


def test_no_password_stands_in_the_compose_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    assert not re.search(r"://[^/\s]*:[^/\s$]*@", text)
    named = {name for service in compose()["services"].values() for name in service.get("secrets", ())}
    assert named == set(compose()["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_ours_are_hardened_and_bounded(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert "mem_limit" in service


def test_a_worker_is_given_its_grace_and_more() -> None:
    worker = compose()["services"]["worker"]
    grace = int(worker["environment"]["ORCHESTRATOR_STOP_GRACE"].removesuffix("s"))
    assert int(worker["stop_grace_period"].removesuffix("s")) >= grace + 15


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_of_ours(name: str) -> None:
    """As the command line reads it: `--help` behind it stops before it does anything, and options are read first."""
    read_by(ORCHESTRATOR, *compose()["services"][name]["command"], "--help")


def test_every_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        text = unit.read_text("utf-8").replace("/opt/orchestrator/bin/orchestrator", "/bin/true")
        made = tmp_path / unit.name.replace("@", "@default")
        made.write_text(text.replace("User=orchestrator", "User=root"))
        read_by(analyze, "verify", "--man=no", str(made))


def test_a_unit_gives_a_worker_its_grace_and_more() -> None:
    text = (DEPLOY / "systemd" / "orchestrator-worker@.service").read_text("utf-8")
    assert "Type=notify" in text
    assert "KillMode=mixed" in text
    stop = re.search(r"TimeoutStopSec=(\d+)", text)
    assert stop is not None
    assert int(stop[1]) >= 60 + 15
