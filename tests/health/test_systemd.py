"""A service of `Type=notify`: what systemd hears, on a real datagram socket."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.observe import systemd
from orchestrator.observe.health import Part, Teller
from orchestrator.observe.pulse import Pulse
from orchestrator.observe.systemd import Manager
from tests.support.ear import Ear
from tests.support.eventually import eventually

WATCHDOG_S = 0.4


@pytest.fixture(params=["a path", "an abstract name"])
def ear(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ear]:
    where = str(tmp_path_factory.mktemp("s") / "n") if request.param == "a path" else f"@test-{secrets.token_hex(8)}"
    with closing(Ear(where)) as made:
        yield made


class Process:
    """Ready when a test says so."""

    def __init__(self) -> None:
        self.stopping = False
        self.ready = threading.Event()

    def parts(self) -> Mapping[str, Part]:
        return {"ledger": Part(self.ready.is_set(), "answers" if self.ready.is_set() else "cannot be reached")}


@pytest.fixture
def process(ear: Ear) -> Iterator[Process]:
    made = Process()
    teller = Teller(made, Manager.of({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}))
    teller.start()
    yield made
    teller.end()
    teller.join(10)


def test_it_hears_that_a_process_is_ready_once_it_is(ear: Ear, process: Process) -> None:
    eventually(lambda: ear.said("STATUS=not ready; ledger: cannot be reached"))
    assert not ear.said("READY=1")
    process.ready.set()
    eventually(lambda: ear.said("READY=1") and ear.said("STATUS=ready"))
    process.stopping = True
    eventually(lambda: ear.said("STOPPING=1") and ear.said("STATUS=stopping"))
    eventually(lambda: ear.said("WATCHDOG=1") >= 5)
    assert (ear.said("READY=1"), ear.said("STOPPING=1")) == (1, 1)


def test_signs_of_life_end_while_a_loop_hangs(ear: Ear, process: Process) -> None:
    process.ready.set()
    pulse = Pulse("consumer", 0.5)
    pulse.begin()
    try:
        eventually(lambda: ear.said("STATUS=hanging: consumer"))
        before = ear.said("WATCHDOG=1")
        silence = threading.Event()
        silence.wait(4 * WATCHDOG_S)  # that nothing comes is what is tested
        assert ear.said("WATCHDOG=1") == before > 0
        pulse.moved()
        eventually(lambda: ear.said("WATCHDOG=1") > before)
    finally:
        pulse.end()


def test_without_a_socket_nobody_is_told() -> None:
    assert Manager.of({}) is None
    assert Manager.of({"NOTIFY_SOCKET": "vsock:2:1"}) is None


def test_a_socket_that_is_gone_does_no_harm_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(str(tmp_path / "gone"))
    manager.say(READY=1)
    manager.say(READY=1)
    assert [record.message for record in caplog.records] == ["systemd.unheard"]


def test_a_status_is_one_line(ear: Ear) -> None:
    Manager(ear.address).say(STATUS="it\nREADY=1")
    assert ear.said("STATUS=it READY=1") == 1


def test_what_the_process_starts_does_not_inherit_the_socket(ear: Ear) -> None:
    env = {"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1", "HOME": "/"}
    manager = systemd.take(env)
    assert manager is not None
    assert manager.watchdog_s == 30
    assert env == {"HOME": "/"}
