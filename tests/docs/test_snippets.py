"""The Python and SQL in the pages works: type-checked, registered, run once on a real worker and a real ledger."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import psycopg
import pytest

from orchestrator import Client, Settings, StepStatus, flow, step
from orchestrator.authoring.discovery import load_flows
from orchestrator.ledger import reads
from orchestrator.settings import variable
from tests.docs import pages
from tests.support.eventually import eventually
from tests.support.servers import Server
from tests.support.worker_process import WorkerProcess, env_of, running

PYTHON = pages.blocks("python")
SQL = pages.blocks("sql")
PATTERNS = [str(block.name) for block in pages.blocks("python", page="docs/patterns.md")]
"""A flow and its test, and again."""
FLOWS = (
    "letters",
    "bank_charges",
    "posters",
    "books",
    "by_hand",
    "reports",
    "approval",
    "pickups",
    "limited",
    "transcribe",
    "throttled",
    "parcels",
    "payments",
    "reminders",
    "vault",
    "watchers",
    "fulfilment",
    "checkout",
    "charges",
    "quotes",
    "bakery_flows",
    "billing",
    "invoices",
    "films",
    "warehouse",
    "ratings",
    "trials",
    "claims",
    "card_payments",
    "thumbnails",
    *(name.removesuffix(".py") for name in PATTERNS if not name.startswith("test_")),
)
TESTS = (
    "test_orders.py",
    "test_vault.py",
    "test_late_letters.py",
    "test_shop.py",
    "test_parcels.py",
    "test_payments.py",
    "test_reminders.py",
    "test_watchers.py",
    "test_fulfilment.py",
    "test_billing.py",
    "test_invoices.py",
    "test_checkout.py",
    "test_charges.py",
    "test_films.py",
    "test_warehouse.py",
    "test_ratings.py",
    "test_trials.py",
    "test_claims.py",
    "test_thumbnails.py",
    *(name for name in PATTERNS if name.startswith("test_")),
)
CELERY_IS_UNTYPED = (
    "[mypy-celery.*]\nignore_missing_imports = true\n"
    "[mypy-bakery,bakery_flows]\ndisallow_untyped_decorators = false\nwarn_return_any = false\n"
)
PROGRAMS = ("test_letters.py", "client_tour.py", "order_and_run.py", "mend_march.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every Python block as the file that it names."""
    made = tmp_path_factory.mktemp("snippets")
    for block in PYTHON:
        (made / str(block.name)).write_text(block.text)
    return made


def test_every_python_block_names_its_own_file() -> None:
    names = [block.name for block in PYTHON]
    assert None not in names
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_snippets_need_no_casts(folder: Path) -> None:
    """As the reference says: `mypy --strict`."""
    pytest.importorskip("mypy")
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {pages.ROOT}\n{CELERY_IS_UNTYPED}")
    options = ["--config-file", str(config), "--cache-dir", str(folder / ".cache"), "--follow-imports=silent"]
    files = [str(block.name) for block in PYTHON]
    done = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def worker(settings: Settings, folder: Path) -> Iterator[WorkerProcess]:
    with running(WorkerProcess(settings, ",".join(FLOWS), folder, pool="threads")) as started:
        yield started


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("worker")
def test_the_snippets_run(folder: Path, settings: Settings) -> None:
    printed = {name: _run(folder / name, settings) for name in PROGRAMS}
    assert printed["client_tour.py"].startswith("2\n")  # one letter was sent, and the program adds one
    assert printed["order_and_run.py"] == "1\n"
    march = printed["mend_march.py"].splitlines()
    assert march[0].startswith("Schedule report/weekdays has not fired yet")
    assert "21" in march  # weekdays of that March
    assert any(line.startswith("eu ") for line in march)
    with Client(settings) as client:
        assert client.start("by_hand", urls=["a", "b"]).result(timeout=60) == {"first": "the page at the page at a"}
        assert client.start("book", number="17").result(timeout=60) is None
        letters = client.start("letters", url="u", addresses=["a", "b"])
        assert letters.result(timeout=60) == 2
        keys = {row.key: row.status for row in letters.steps()}
        assert keys["send.1.send"] is StepStatus.SUCCEEDED
        with _limited_server() as url:
            assert client.start("loading", url=url).result(timeout=60) == "at last"


@pytest.mark.timeout(300)
def test_the_tests_pass(folder: Path, pg_server: Server) -> None:
    """Those of the pages, with the fixture that the installed package brings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))}
    env |= {variable("sim_database_url"): pg_server.admin_url, "PYTHONPATH": str(pages.ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(block.text.count("def test_") for block in PYTHON if block.name in TESTS)
    assert f"{tests} passed" in done.stdout


@contextmanager
def _limited_server() -> Iterator[str]:
    """Answers 429 once, and asks for a second; then with a text."""

    class Handler(BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Handler.asked += 1
            self.send_response(429 if Handler.asked == 1 else 200)
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(b"at last")

        def log_message(self, format: str, *args: object) -> None:
            """Not into the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Jobs(BaseHTTPRequestHandler):
    """Somebody else's server: one job per idempotency key, done at the second look."""

    keys: ClassVar[list[str | None]] = []
    looks: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        self._say({"id": "job-1"})

    def do_GET(self) -> None:
        self.looks.append(self.path)
        self._say({"state": "done" if len(self.looks) > 1 else "running", "text": "well"})

    def _say(self, answer: dict[str, str]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def jobs() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Jobs) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("worker")
def test_the_recipes_run(settings: Settings, db_url: str, jobs: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as mine:
        mine.execute("CREATE TABLE approvals (document text PRIMARY KEY, approved boolean)")
        mine.execute("CREATE TABLE calls (api text, minute timestamptz, taken int, PRIMARY KEY (api, minute))")
        mine.execute("INSERT INTO approvals VALUES ('yes', true), ('no', false)")
        with Client(settings) as client:
            names = {"approval", "limited", "transcribe"}
            eventually(lambda: {row.name for row in client.call(reads.flows.every)} >= names)
            runs = [client.start("approval", document=document) for document in ("yes", "no", "open")]
            assert [run.result(timeout=60) for run in runs[:2]] == ["yes is out", "no was turned down"]
            eventually(lambda: runs[2].status() == "waiting", timeout=60)
            assert client.start("limited", question="why").result(timeout=60) == "the answer to why"
            heard = client.start("transcribe", server=jobs, audio="a.wav")
            assert heard.result(timeout=60) == "well"
        assert mine.execute("SELECT sum(taken) FROM calls").fetchone() == (1,)
    assert Jobs.keys == [f"{heard.id}:submit"]
    assert set(Jobs.looks) == {"/jobs/job-1"}


def test_the_tests_of_the_pages_pass(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_orders.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{pages.ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _run(program: Path, settings: Settings) -> str:
    env = env_of(settings, PYTHONPATH=f"{pages.ROOT}:{program.parent}")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=program.parent, env=env, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_flow_in_the_pages_is_left_out(folder: Path) -> None:
    """A new snippet with a flow has to be run above, or in the tour."""
    modules = [block.text for block in PYTHON if "@flow" in block.text or "Flow.from_manifest" in block.text]
    assert len(modules) == len(FLOWS) + 1
    assert "buy" in load_flows([str(folder / "shop.py")])


@step
def give(number: int) -> int:
    return number


@flow(name="giver")
def giver(number: int) -> int:
    return give(number)


@pytest.fixture
def ended(settings: Settings) -> UUID:
    """A run that was cancelled before any worker saw it."""
    with Client(settings) as client:
        run = client.start(giver, number=1, idempotency_key="one")
        run.cancel("for a test")
        return run.id


@pytest.fixture
def database(db_url: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """Whatever is done here is rolled back; roles, too."""
    with psycopg.connect(db_url) as connection:
        yield connection
        connection.rollback()


def _sql(word: str) -> str:
    (found,) = [block.text for block in SQL if word in block.text]
    return found


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("text", [block.text for block in SQL if block.text.startswith("SELECT")])
def test_a_query_runs(database: "psycopg.Connection[tuple[object, ...]]", text: str) -> None:
    assert database.execute(text.encode()).description


def test_the_query_for_cancels_finds_one(database: "psycopg.Connection[tuple[object, ...]]", ended: UUID) -> None:
    assert [row[0] for row in database.execute(_sql("cancel_by").encode())] == [ended]
