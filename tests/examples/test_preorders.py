"""The example of a preorder, on the test kit's clock."""

import contextlib
import shlex
from decimal import Decimal
from pathlib import Path

import pytest

from examples.preorders.flow import Decision, Paid, Preorder, ask_to_pay, preorder
from orchestrator import Client
from orchestrator.cli import main
from orchestrator.core.states import StepStatus
from orchestrator.errors import SignalTooLate
from orchestrator.settings import Settings
from orchestrator.testing import World
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess, running

ROOT = Path(__file__).parents[2]
FLOWS = "examples.preorders.flow"

PAID = Paid(reference="pay-7", amount=Decimal(600))


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_FILE", str(tmp_path / "shop.sqlite3"))


def order(quantity: int) -> Preorder:
    return Preorder(number="P-1", customer="ada@example.org", item="kettle", price=Decimal(60), quantity=quantity)


def test_a_large_order_is_agreed_to_paid_and_shipped(world: World) -> None:
    run = world.start(preorder, order=order(10))
    world.answer(run, "approval", Decision(ok=True), by="grace")
    world.advance(days=2)
    assert world.signal(run, "paid", PAID, id="evt-1").delivered
    assert run.result().startswith("P-1: shipped as trk-")
    assert run.result().endswith("paid by pay-7")


def test_a_small_order_asks_nobody(world: World) -> None:
    run = world.start(preorder, order=order(1))
    assert "approval" in run.skipped
    assert world.signal(run, "paid", PAID, id="evt-1").delivered
    assert run.result().startswith("P-1: shipped")


def test_a_refused_order_is_called_off(world: World) -> None:
    run = world.start(preorder, order=order(10))
    world.answer(run, "approval", Decision(ok=False, why="too many kettles"), by="grace")
    assert run.result() == "P-1: called off, too many kettles"


def test_nobody_decides(world: World) -> None:
    run = world.finish(world.start(preorder, order=order(10)))
    assert run.result() == "P-1: called off, nobody decided in time"


def test_nobody_pays_and_a_late_payment_is_told_so(world: World) -> None:
    run = world.start(preorder, order=order(1))
    world.advance(days=4)
    assert run.result() == "P-1: called off, nobody paid"
    with pytest.raises(SignalTooLate):
        world.signal(run, "paid", PAID, id="evt-1")


def test_a_payment_before_the_mail_is_out_counts(world: World) -> None:
    world.kill(ask_to_pay)
    run = world.start(preorder, order=order(1))
    assert world.signal(run, "paid", PAID, id="evt-1").kept
    assert world.finish(run).result().startswith("P-1: shipped")


def _commands(page: str) -> list[list[str]]:
    """Those of a page, but for the ones that go on until they are stopped."""
    lines = [shlex.split(line) for line in page.splitlines() if line.startswith("    orchestrator ")]
    return [words for line in lines if (words := line[1:])[0] != "dev"]


def test_the_commands_of_its_page(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each, in their order, beside a real worker, once the run has got as far as the page says."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.require_database_url())
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.require_broker_url())

    def said(words: list[str]) -> str:
        monkeypatch.setattr("sys.argv", ["orchestrator", *words])
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            main()
        told = capsys.readouterr()
        assert not told.err.startswith("error"), told.err
        return told.out

    start, *rest = _commands((ROOT / "examples/preorders/README.md").read_text(encoding="utf-8"))
    worker = WorkerProcess(settings, FLOWS, tmp_path, env={"SHOP_FILE": str(tmp_path / "shop.sqlite3")})
    with running(worker), Client(settings) as client:
        run = client.run(said(start).strip())
        for words in rest:
            waits = "approval" if words[0] == "approval" else "paid"
            if words[1] != "watch":
                eventually(lambda: run.step(waits).status == StepStatus.WAITING)  # noqa: B023
            out = said([word.replace("RUN", str(run.id)) for word in words])
            assert out
        assert run.result(timeout=60).endswith("paid by pay-7")
