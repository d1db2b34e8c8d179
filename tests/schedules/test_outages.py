"""What is lost in Redis comes back, and no server that goes away costs or doubles a tick."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pytest

from orchestrator.doctor import examine
from orchestrator.ledger import migrate
from orchestrator.servers import redbeat
from orchestrator.settings import Settings
from tests.schedules.conftest import Field, at
from tests.support import databases, servers
from tests.support.eventually import eventually
from tests.support.servers import Broker, Server

pytestmark = pytest.mark.timeout(300)
EACH = 'Every("1s"), key="e", missed="all"'
MORE = [EACH, *(f'Every("{minutes}m"), key="m{minutes}"' for minutes in range(1, 8))]
NAMES = {"ticking/e", *(f"ticking/m{minutes}" for minutes in range(1, 8))}
Make = Callable[[Settings], Field]


@pytest.fixture
def own_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def own_broker(own_folder: Path) -> Iterator[Broker]:
    """One that may be stopped."""
    with servers.broker(own_folder / "valkey") as made:
        yield made


@pytest.fixture
def own_postgres(own_folder: Path) -> Iterator[Server]:
    with servers.postgres(own_folder / "postgres") as made:
        yield made


def is_right(ground: Field) -> None:
    verdict = ground.verdict("e")
    assert verdict.right, verdict


@pytest.mark.slow
def test_a_flushed_redis_is_filled_again_at_once(ground: Field) -> None:
    """With the entries the lock is gone: whoever takes it writes everything."""
    ground.plan(*MORE)
    ground.worker()
    beats = [ground.beat(), ground.beat()]
    ground.wait_ticks(3, "e", by="beat")
    for _ in range(3):
        ground.redis().flushall()
        since = monotonic()
        eventually(lambda: ground.scores().keys() == NAMES, message="all entries are back")
        print(f"entries are back {monotonic() - since:.2f} s after FLUSHALL")
        ground.wait_ticks(2, "e", by="beat")
    assert sum(beat.leads for beat in beats) == 1
    is_right(ground)


@pytest.mark.slow
def test_evicted_entries_come_back_within_a_reconcile(ground: Field) -> None:
    """Some lost their hash, some their place in the set, one both; the lock was not touched."""
    ground.plan(*MORE)
    ground.worker()
    beat = ground.beat()
    ground.wait_ticks(2, "e", by="beat")
    client, prefix = ground.redis(), redbeat.prefix(ground.settings)
    client.delete(f"{prefix}ticking/e", f"{prefix}ticking/m1")
    client.zrem(f"{prefix}:schedule", f"{prefix}ticking/m2", f"{prefix}ticking/m1")
    client.delete(f"{prefix}ticking/m3")
    wait_s = ground.settings.reconcile_interval.total_seconds() + 2
    hashes = [f"{prefix}{name}" for name in NAMES]
    eventually(
        lambda: client.exists(*hashes) == len(NAMES) and ground.scores().keys() == NAMES,
        timeout=wait_s,
        message="all entries are back",
    )
    ground.wait_ticks(3, "e", by="beat")
    client.delete(f"{prefix}:schedule")
    eventually(lambda: ground.scores().keys() == NAMES, timeout=wait_s, message="the set is back")
    ground.wait_ticks(2, "e", by="beat")
    assert beat.log().count("beat.leads") == 1
    is_right(ground)


@pytest.mark.slow
def test_a_restarted_redis_finds_everybody_again(quick: Settings, field_of: Make, own_broker: Broker) -> None:
    ground = field_of(at(quick, broker_url=own_broker.url))
    ground.plan(*MORE)
    ground.worker()
    beats = [ground.beat(), ground.beat()]
    ground.wait_ticks(2, "e", by="beat")
    assert own_broker.embedded is not None
    own_broker.embedded.kill()
    eventually(lambda: any("beat.failing" in beat.log() for beat in beats))
    late = ground.wait_ticks(3, "e", by="watchdog")
    assert max(one.lag for one in late if one.lag is not None) < timedelta(seconds=6)
    own_broker.embedded.start()
    ground.wait_ticks(5, "e", by="beat")
    assert ground.scores().keys() == NAMES
    assert all(beat.is_running for beat in beats)
    assert "Traceback" not in "".join(beat.log() for beat in beats)
    is_right(ground)


@pytest.mark.slow
def test_a_tick_that_cannot_be_sent_is_sent_later(quick: Settings, field_of: Make, own_broker: Broker) -> None:
    """RedBeat's own Redis works, the broker does not."""
    ground = field_of(at(quick, broker_url=own_broker.url, redbeat_url=quick.require_broker_url()))
    ground.plan(EACH)
    ground.worker()
    beat = ground.beat()
    ground.wait_ticks(2, "e", by="beat")
    assert own_broker.embedded is not None
    own_broker.embedded.kill()
    beat.wait_for("beat.failing", timeout=60)
    ground.wait_ticks(3, "e", by="watchdog")
    own_broker.embedded.start()
    ground.wait_ticks(5, "e", by="beat")
    assert beat.leads
    is_right(ground)


def test_a_restarted_ledger_loses_no_tick(
    quick: Settings, field_of: Make, own_postgres: Server, own_folder: Path
) -> None:
    with ExitStack() as stack:
        name = stack.enter_context(databases.created(own_postgres))
        url = own_postgres.url_of(name)
        migrate.upgrade(url)
        ground = field_of(at(quick, database_url=url))
        ground.plan(*MORE)
        ground.worker()
        beats = [ground.beat(), ground.beat()]
        ground.wait_ticks(2, "e", by="beat")
        ground.ledger.close()  # ours; it opens again by itself
        assert own_postgres.embedded is not None
        own_postgres.embedded.stop(immediate=True)
        eventually(lambda: any("beat.failing" in beat.log() for beat in beats))
        own_postgres.embedded.start()
        ground.wait_ticks(6, "e", by="beat")
        assert all(beat.is_running for beat in beats)
        is_right(ground)
        ground.ledger.close()


@pytest.mark.slow
def test_without_any_beat_ticks_are_late_and_none_is_lost(ground: Field) -> None:
    ground.plan(EACH)
    ground.worker()
    ground.worker()
    ticks = ground.wait_ticks(8, "e")
    assert {one.by for one in ticks} == {"watchdog"}
    is_right(ground)
    limit = ground.settings.watchdog_interval + ground.settings.tick_grace
    late = ground.verdict("e").late()
    print(f"without a beat: a tick is {late[len(late) // 2]:.1f} s late, at worst {late[-1]:.1f} s, of {limit}")
    assert late[-1] < limit.total_seconds() + 2
    (found,) = [one for one in examine(ground.settings) if one.check == "beat"]
    assert (found.status, found.fix) == ("warn", "start one, better two: `orchestrator beat`.")


@pytest.mark.slow
def test_a_stuck_lock_costs_lateness_only(ground: Field) -> None:
    """A holder that is asleep for ever, with a lock that never ends."""
    ground.plan(EACH)
    ground.worker()
    ground.redis().set(redbeat.lock_key(ground.settings), "somebody")
    beat = ground.beat()
    assert not beat.leads
    assert {one.by for one in ground.wait_ticks(5, "e")} == {"watchdog"}
    is_right(ground)


@pytest.mark.slow
def test_ticks_queued_while_no_worker_ran_are_one_start_each(ground: Field) -> None:
    ground.plan('Every("1s"), key="e"')
    ground.beat()
    queue = f"{ground.settings.key_prefix}orchestrator.ticks"
    client = ground.redis()
    eventually(lambda: int(client.llen(queue)) >= 4, message="announcements wait")  # type: ignore[arg-type]
    ground.worker()
    eventually(lambda: client.llen(queue) == 0)
    ground.wait_ticks(3, "e", by="beat")
    outcomes = [one.outcome for one in ground.ticks("e")]
    assert outcomes[0] == "missed"
    assert set(outcomes[1:]) == {"started"}
