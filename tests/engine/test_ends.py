"""Whoever ends a run tells so, after the commit."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from orchestrator import Client, each, flow, step
from orchestrator.core.facts import Claimant, Lease, StepError, Success
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine.steps import claim_step, finish_step, release
from orchestrator.engine.sweeps import sweep
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.support import play
from tests.support.small_flows import hello

GRACE = timedelta(seconds=10)


class Told(list[tuple[UUID, str]]):
    """What a ledger told, with what somebody else saw of the run at that moment."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._elsewhere = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def __call__(self, run_ids: Sequence[UUID]) -> None:
        for run_id in run_ids:
            row = self._elsewhere.execute("SELECT status FROM flow_runs WHERE id = %s", [run_id]).fetchone()
            assert row is not None
            self.append((run_id, row[0]))

    def close(self) -> None:
        self._elsewhere.close()


@step
def numbers() -> list[int]:
    return [1, 2]


@step
def one(n: int) -> int:
    return n


@flow(name="short", deadline="1h")
def short(n: int) -> int:
    return one(n)


@flow(name="wide_end")
def wide_end() -> list[int]:
    return each(one, numbers())


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as made:
        yield made


@pytest.fixture
def told(client: Client, db_url: str) -> Iterator[Told]:
    made = Told(db_url)
    client.ledger.ended = made
    yield made
    made.close()


def claimed(ledger: Ledger, run_id: UUID, key: str = "one") -> Lease:
    lease = claim_step.claim(ledger, run_id, key, 1, Claimant("test/1/a", play.LEASE))
    assert isinstance(lease, Lease)
    return lease


def test_the_last_step_of_a_chain_tells(client: Client, told: Told) -> None:
    run = client.start(hello, name="you")
    play.succeed(client.ledger, run.id, "greet", "hello you")
    assert told == []
    play.succeed(client.ledger, run.id, "measure", {"text": "", "length": 0})
    assert told == [(run.id, "succeeded")]


def test_the_general_path_tells(client: Client, told: Told) -> None:
    run = client.start(wide_end)
    play.succeed(client.ledger, run.id, "numbers", [1, 2])
    first, last = [child.key for child in run.all_steps() if child.loop_key]
    play.succeed(client.ledger, run.id, first, 1)
    assert told == []
    play.succeed(client.ledger, run.id, last, 2)
    assert told == [(run.id, "succeeded")]


def test_a_failure_tells(client: Client, told: Told) -> None:
    run = client.start(hello, name="you")
    play.fail(client.ledger, run.id, "greet")
    assert told == [(run.id, "failed")]


def test_a_cancel_tells_at_once_or_with_the_last_handler(client: Client, told: Told) -> None:
    idle, busy = client.start_many(short, [{"n": 1}, {"n": 2}])
    idle.cancel("enough")
    assert told == [(idle.id, "cancelled")]
    lease = claimed(client.ledger, busy.id)
    busy.cancel("enough")
    assert len(told) == 1
    assert release.release(client.ledger, lease) == ()
    assert told[1:] == [(busy.id, "cancelled")]


def test_a_deadline_tells(client: Client, told: Told, db_url: str) -> None:
    run = client.start(short, n=1)
    with psycopg.connect(db_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
            "AS $$ SELECT clock_timestamp() + interval '2 hours' $$"
        )
    sweep.deadlines(client.ledger, GRACE)
    assert told == [(run.id, "timed_out")]


def test_a_lost_worker_tells(client: Client, told: Told) -> None:
    run = client.start(short, n=1)
    claimed(client.ledger, run.id)
    release.end_owned(client.ledger, "test/1", crash_limit=0)
    assert told == [(run.id, "failed")]


def test_a_transactional_step_tells_with_its_own_commit(client: Client, told: Told) -> None:
    run = client.start(short, n=1)
    lease = claimed(client.ledger, run.id)
    with client.ledger.patient_tx("test") as tx:
        assert finish_step.finish(client.ledger, lease, Success("1"), tx).run_status is not None
        assert told == []
    assert told == [(run.id, "succeeded")]


def test_a_transaction_that_is_undone_tells_nobody(client: Client, told: Told) -> None:
    run = client.start(short, n=1)
    lease = claimed(client.ledger, run.id)

    def give_up() -> None:
        with client.ledger.patient_tx("test") as tx:
            finish_step.finish(client.ledger, lease, Success("1"), tx)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        give_up()
    assert told == []
    release.undone(client.ledger, lease, StepError("TransactionLost", "gone"), crash_limit=0)
    assert told == [(run.id, "failed")]


def test_what_is_found_recorded_after_a_lost_reply_is_told(client: Client, told: Told) -> None:
    run = client.start(short, n=1)
    lease = claimed(client.ledger, run.id)
    finish_step.finish(client.ledger, lease, Success("1"))
    told.clear()
    done = finish_step.settled(client.ledger, lease)
    assert done is not None
    assert done.run_status is RunStatus.SUCCEEDED
    assert told == [(run.id, "succeeded")]
    assert told[0][1] in FINAL_RUN
