"""The audit, on a real worker and real packages."""

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from examples.package_audit.flow import Installed, check, list_distributions, package_audit
from examples.package_audit.report import Report, table
from orchestrator import Client, Context
from orchestrator.settings import Settings
from tests.support.worker_process import WorkerProcess, running

FLOWS = "examples.package_audit.flow"


def install(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """A distribution as pip would leave it; the folder of its dist-info."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))
    return info


def counted_independently() -> tuple[int, int]:
    """Distributions and lines of RECORD in this environment, without importlib.metadata."""
    records = {info / "RECORD" for folder in sys.path for info in Path(folder).absolute().glob("*.dist-info")}
    present = [record for record in records if record.is_file()]
    return len(records), sum(len(record.read_text().splitlines()) for record in present)


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> WorkerProcess:
    return WorkerProcess(settings, FLOWS, tmp_path)


def test_every_file_of_this_environment_is_in_the_report(settings: Settings, worker: WorkerProcess) -> None:
    """Real files, counted a second time in another way."""
    with running(worker), Client(settings) as client:
        run = client.start(package_audit)
        report = run.result(timeout=120)
        distributions, files = counted_independently()
        assert (report.distributions, report.files) == (distributions, files)
        assert report.intact + report.modified + report.missing + sum(report.unverifiable.values()) == files
        assert report.headline == f"{distributions} distributions, {files:,} files, {report.modified} modified"
        assert table(report).startswith(report.headline)
        assert report.environment.attempts == 2, "the flaky step fails once"
        steps = {step.key: step.attempts for step in run.steps(fold=0)}
        assert steps["read_environment"] == 2


def test_what_was_tampered_with_is_found(settings: Settings, worker: WorkerProcess, tmp_path: Path) -> None:
    """Each kind of harm is named, with its file; the neighbour stays clean."""
    site = tmp_path / "site"
    harmed = {f"harmed/{name}.py": b"content = 1\n" for name in ("intact", "same_size", "longer", "gone")}
    install(site, "harmed", harmed)
    install(site, "clean", {"clean.py": b"pass\n"})
    (site / "harmed/same_size.py").write_bytes(b"content = 2\n")
    (site / "harmed/longer.py").write_bytes(b"content = 1\nimport evil\n")
    (site / "harmed/gone.py").unlink()
    with running(worker), Client(settings) as client:
        report = client.start(package_audit, paths=[str(site)]).result(timeout=60)
    assert report.headline == "2 distributions, 7 files, 2 modified"
    assert {finding.path: (finding.state, finding.reason) for finding in report.findings} == {
        "harmed/same_size.py": ("modified", "sha256 differs"),
        "harmed/longer.py": ("modified", "24 bytes, should be 12"),
        "harmed/gone.py": ("missing", ""),
    }
    assert {one.name: (one.intact, one.modified, one.missing) for one in report.checked} == {
        "clean": (1, 0, 0),
        "harmed": (1, 2, 1),
    }
    assert "harmed/gone.py" in table(report)


def test_what_cannot_be_verified_is_said_and_does_not_fail_the_audit(tmp_path: Path) -> None:
    """No RECORD, no hash, an unknown hash, a folder where a file should be."""
    info = install(tmp_path, "odd", {"a.py": b"", "b.py": b"", "c.py": b""})
    (tmp_path / "c.py").unlink()
    (tmp_path / "c.py").mkdir()
    lines = ["a.py,,", "b.py,rot13=abc,0", "x.pyc,,", "absent.txt,,", *(info / "RECORD").read_text().splitlines()[2:]]
    (info / "RECORD").write_text("\n".join(lines))
    (odd,) = list_distributions.fn((str(tmp_path),))
    found = check.fn(Context(), odd)
    assert found.unverifiable == {
        "no hash recorded": 1,
        "hash rot13 is not known": 1,
        "compiled": 1,
        "Is a directory": 1,
        "RECORD itself": 1,
    }
    assert (found.files, found.missing, found.modified) == (6, 1, 0)
    (info / "RECORD").unlink()
    assert check.fn(Context(), odd).unverifiable == {"no RECORD": 1}


def test_a_cancelled_check_stops_between_two_files(tmp_path: Path) -> None:
    """A handler that runs long looks whether anybody still wants it."""
    install(tmp_path, "big", {"a.py": b"", "b.py": b""})
    context = Context()
    context.signals.cancel.set()
    with pytest.raises(InterruptedError):
        check.fn(context, Installed(name="big", version="1.0", folder=tmp_path))


def test_the_report_is_json_and_comes_back(tmp_path: Path) -> None:
    """What a program reads is what a person reads."""
    install(tmp_path, "one", {"a.py": b"pass"})
    checked = [check.fn(Context(), found) for found in list_distributions.fn((str(tmp_path),))]
    from examples.package_audit.flow import read_environment, summarise

    report = summarise.fn(read_environment.fn(Context(attempt=2)), checked)
    assert Report.model_validate_json(report.model_dump_json()) == report
