"""Sending off the caller's path: nothing is forgotten, not even by a program that just ends."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from uuid import uuid4

import pytest

from orchestrator.core.facts import Dispatch
from orchestrator.delivery import sender as sender_module
from orchestrator.delivery.sender import Sender
from tests.support.eventually import eventually
from tests.workers.conftest import Bench


def dispatch(number: int) -> Dispatch:
    return Dispatch(uuid4(), "s", number, "chain.add", "default", 5)


class Recorder:
    """Stands where the publisher stands; `gate` holds it back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def publish(self, dispatches: Sequence[Dispatch]) -> bool:
        self.gate.wait(60)
        self.batches.append([one.number for one in dispatches])
        return True

    def close(self) -> None:
        self.closed = True

    @property
    def sent(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


def test_what_is_sent_arrives_in_order_and_together_under_load() -> None:
    """While one batch is on its way the next gathers."""
    recorder = Recorder()
    sender = Sender(recorder)  # type: ignore[arg-type]
    recorder.gate.clear()
    for number in range(100):
        sender.send([dispatch(number)])
    recorder.gate.set()
    sender.close()
    assert recorder.sent == list(range(100))
    assert len(recorder.batches) < 10
    assert recorder.closed


def test_nobody_runs_far_ahead_of_a_slow_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog makes the caller wait."""
    monkeypatch.setattr(sender_module, "_BACKLOG", 3)
    recorder = Recorder()
    sender = Sender(recorder)  # type: ignore[arg-type]
    recorder.gate.clear()
    ahead = threading.Thread(target=lambda: [sender.send([dispatch(n)]) for n in range(20)])
    ahead.start()
    ahead.join(0.2)
    assert ahead.is_alive()
    recorder.gate.set()
    ahead.join(60)
    sender.close()
    assert recorder.sent == list(range(20))


def test_a_sender_that_sent_nothing_closes() -> None:
    recorder = Recorder()
    Sender(recorder).close()  # type: ignore[arg-type]
    assert recorder.closed


def test_a_program_that_ends_without_closing_has_sent_its_messages(bench: Bench) -> None:
    """No keeper runs here: the message comes from the program itself."""
    code = (
        "from orchestrator import Client, flow, step\n"
        "@step\ndef one() -> int:\n    return 1\n"
        "@flow(name='ends')\ndef ends() -> int:\n    return one()\n"
        "Client.from_env().start(ends)\n"
    )
    env = {
        **os.environ,
        "ORCHESTRATOR_DATABASE_URL": bench.settings.require_database_url(),
        "ORCHESTRATOR_BROKER_URL": bench.settings.require_broker_url(),
    }
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)

    def confirmed() -> bool:
        with bench.ledger.engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT count(*) FROM flow_step_dispatches WHERE task = 'ends.one' AND published_at IS NOT NULL"
            ).scalar()
        return found == 1

    eventually(confirmed)
