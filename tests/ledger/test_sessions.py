"""Every connection has our limits, stays one session, and is alive when something is sent that may not be repeated."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from orchestrator.core.reach import PLAIN, Pooler, Reach
from orchestrator.errors import FlowNotFound, PoolerUnfit, Unavailable
from orchestrator.ledger import migrate, session
from orchestrator.ledger.rows import one
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.servers.diagnosis import explained
from tests.support.bouncer import bouncer, equip
from tests.support.eventually import eventually
from tests.support.factories import Lab, call

LIMITS = {
    "statement_timeout": "2s",
    "idle_in_transaction_session_timeout": "2s",
    "lock_timeout": "0",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "TimeZone": "UTC",
    "transaction_isolation": "read committed",
}


LIMIT = timedelta(seconds=2)
SESSION = Reach(Pooler.SESSION)
TRANSACTION = Reach(Pooler.TRANSACTION, LIMIT)


def ledger_at(url: str, reach: Reach = PLAIN) -> Ledger:
    return Ledger.connect(url, statement_timeout=LIMIT, reach=reach)


@pytest.fixture
def opened(db_url: str) -> Iterator[Ledger]:
    made = ledger_at(db_url)
    yield made
    made.close()


def in_force(ledger: Ledger) -> dict[str, Any]:
    with ledger.tx() as tx:
        return {name: tx.exec_driver_sql(f"SHOW {name}").scalar() for name in LIMITS}


def after(ledger: Ledger, statement: str, error: BaseException) -> None:
    with ledger.auto() as tx:
        tx.exec_driver_sql(statement)
        raise error


def connections_of(ledger: Ledger) -> list[int]:
    made: list[int] = []
    event.listen(ledger.engine, "connect", lambda *_: made.append(1))
    return made


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
def test_the_limits_hold_whatever_the_database_has_as_its_defaults(db_url: str, isolation: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as admin:
        name = admin.info.dbname
        for setting, value in (("default_transaction_isolation", isolation), ("lock_timeout", "1ms"), ("jit", "on")):
            admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")  # type: ignore[arg-type]
    ledger = ledger_at(db_url)
    assert in_force(ledger) == LIMITS
    ledger.close()


def test_a_direct_connection_costs_one_question(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = session.ask
    monkeypatch.setattr(session, "ask", lambda connection, text: asked.append(text) or ask(connection, text))
    ledger = ledger_at(db_url)
    with ledger.engine.connect(), ledger.engine.connect():
        assert len(asked) == 2
    ledger.close()


def test_the_limits_hold_behind_a_pooler_in_session_mode(db_url: str, tmp_path: Path) -> None:
    with bouncer(db_url, tmp_path, "session") as url:
        ledger = ledger_at(url, SESSION)
        assert in_force(ledger) == LIMITS
        with ledger.engine.connect() as one, ledger.engine.connect() as two:
            assert len({c.exec_driver_sql("SELECT pg_backend_pid()").scalar() for c in (one, two)}) == 2
        ledger.close()


def test_a_process_that_sleeps_in_a_transaction_behind_a_pooler_loses_it(db_url: str, tmp_path: Path) -> None:
    with bouncer(db_url, tmp_path, "session") as url, psycopg.connect(db_url, autocommit=True) as admin:
        ledger = ledger_at(url, SESSION)
        asleep = ledger.opened()
        asleep.exec_driver_sql("LOCK TABLE flow_runs")
        held = "SELECT 1 FROM pg_locks WHERE relation = 'flow_runs'::regclass AND mode = 'AccessExclusiveLock'"
        assert admin.execute(held).fetchone()
        eventually(lambda: admin.execute(held).fetchone() is None, message="the lock is let go")
        with pytest.raises(DBAPIError):
            asleep.exec_driver_sql("SELECT 1")
        ledger.close()


def test_a_commit_that_comes_too_late_is_told_in_our_words_behind_a_pooler(db_url: str, tmp_path: Path) -> None:
    """The driver gets two answers at once and calls that an internal error; whether it was committed is not known."""
    with bouncer(db_url, tmp_path, "session") as url, psycopg.connect(db_url, autocommit=True) as admin:
        ledger = ledger_at(url, SESSION)
        asleep = ledger.opened()
        asleep.exec_driver_sql("LOCK TABLE flow_runs")
        held = "SELECT 1 FROM pg_locks WHERE relation = 'flow_runs'::regclass AND mode = 'AccessExclusiveLock'"
        eventually(lambda: admin.execute(held).fetchone() is None, message="the lock is let go")
        with pytest.raises(DBAPIError) as caught:
            asleep.commit()
        assert is_disconnect(caught.value)
        said = explained(caught.value, url)
        assert isinstance(said, Unavailable)
        assert "Fix: try again. A pooler passed on that PostgreSQL had ended the session" in said.message
        ledger.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("size", [1, 5])
def test_a_pooler_that_changes_the_session_is_refused_where_a_session_was_promised(
    db_url: str, tmp_path: Path, mode: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE_S", 2.0)
    with bouncer(db_url, tmp_path, mode, size=size) as url:
        ledger = ledger_at(url, SESSION)
        for _ in range(2):  # it is asked again, not remembered as good
            with pytest.raises(PoolerUnfit, match=r"pool_mode = session") as caught, ledger.auto():
                pass
            assert caught.value.refused
        with pytest.raises(PoolerUnfit):
            migrate.upgrade(url, SESSION)


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("session", "set ORCHESTRATOR_DATABASE_POOLER=session"),
        ("transaction", "set ORCHESTRATOR_DATABASE_POOLER=transaction"),
        ("statement", "allows no transactions"),
    ],
)
def test_a_pooler_that_was_not_declared_is_refused_and_its_mode_told(
    db_url: str, tmp_path: Path, mode: str, told: str
) -> None:
    with bouncer(db_url, tmp_path, mode) as url:
        with pytest.raises(PoolerUnfit, match=told) as caught, ledger_at(url).auto():
            pass
        assert caught.value.refused
        with pytest.raises(PoolerUnfit, match=told):
            migrate.upgrade(url)


def test_a_session_that_was_not_reset_is_refused(db_url: str, tmp_path: Path) -> None:
    """Prepared statements have the same names in every process."""
    with bouncer(db_url, tmp_path, "session", server_reset_query="") as url:
        with psycopg.connect(url, autocommit=True) as before:
            before.execute("SELECT 1", prepare=True)
        with pytest.raises(PoolerUnfit, match="not reset"), ledger_at(url, SESSION).auto():
            pass


def test_the_role_brings_the_limits_behind_a_pooler_in_transaction_mode(db_url: str, tmp_path: Path) -> None:
    equip(db_url, LIMIT)
    with bouncer(db_url, tmp_path, "transaction") as url:
        ledger = ledger_at(url, TRANSACTION)
        ledger.prove()
        assert in_force(ledger) == LIMITS
        ledger.close()


@pytest.mark.parametrize("limit", [timedelta(seconds=1), timedelta(seconds=9)])
def test_another_limit_than_the_roles_is_set_in_each_transaction(db_url: str, tmp_path: Path, limit: timedelta) -> None:
    equip(db_url, LIMIT)
    with bouncer(db_url, tmp_path, "transaction", size=1) as url:
        ledger = Ledger.connect(url, statement_timeout=limit, reach=TRANSACTION)
        for open_ in (ledger.auto, ledger.tx):
            with open_() as tx:
                assert tx.exec_driver_sql("SHOW statement_timeout").scalar() == f"{limit.total_seconds():g}s"
        with ledger.opened() as tx:
            assert tx.exec_driver_sql("SHOW statement_timeout").scalar() == f"{limit.total_seconds():g}s"
        ledger.close()
        with closing(ledger_at(url, TRANSACTION)) as other, other.auto() as tx:
            assert tx.exec_driver_sql("SHOW statement_timeout").scalar() == "2s", "nobody else has it"


def test_what_a_transactional_step_sets_is_its_own_and_a_keeper_finds_it_by_its_name(
    db_url: str, tmp_path: Path
) -> None:
    """Its patience, and the name by which it is ended, hold on the session that it has, and end with it."""
    equip(db_url, LIMIT)
    idle = "SHOW idle_in_transaction_session_timeout"
    with (
        bouncer(db_url, tmp_path, "transaction", size=1) as url,
        closing(ledger_at(url, TRANSACTION)) as ledger,
        psycopg.connect(db_url, autocommit=True) as admin,
    ):
        names = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"

        def named() -> list[str]:
            return [name for (name,) in admin.execute(names, [admin.info.backend_pid])]

        with ledger.patient_tx("step 7") as tx:
            assert tx.exec_driver_sql(idle).scalar() == "0"
            assert named() == ["step 7"]
            ledger.hurry(tx)
            assert tx.exec_driver_sql(idle).scalar() == "2s"
        with ledger.auto() as tx:
            assert tx.exec_driver_sql(idle).scalar() == "2s"
            assert named() == ["orchestrator"]


def test_a_role_without_our_settings_is_refused_in_transaction_mode(db_url: str, tmp_path: Path) -> None:
    """A role that has them in part has none of ours where they differ, and each is named."""
    equip(db_url, timedelta(seconds=7))
    with bouncer(db_url, tmp_path, "transaction") as url:
        with pytest.raises(PoolerUnfit, match=r"statement_timeout is '7000' and must be '2000'") as caught:
            ledger_at(url, TRANSACTION).prove()
        assert caught.value.refused
        assert "jit" not in caught.value.message
        assert "db role-sql --settings --role orchestrator" in caught.value.message


def test_statement_mode_is_refused_where_transaction_mode_was_declared(db_url: str, tmp_path: Path) -> None:
    equip(db_url, LIMIT)
    with (
        bouncer(db_url, tmp_path, "statement") as url,
        pytest.raises(PoolerUnfit, match="allows no transactions"),
        ledger_at(url, TRANSACTION).auto(),
    ):
        pass


def test_no_statement_is_prepared_in_transaction_mode(db_url: str, tmp_path: Path) -> None:
    """It would stay behind in a session that another process has next, under the same name."""
    equip(db_url, LIMIT)
    with bouncer(db_url, tmp_path, "transaction", size=1) as url:
        ledgers = [ledger_at(url, TRANSACTION) for _ in range(2)]
        for _ in range(12):
            for ledger in ledgers:
                with ledger.auto() as tx:
                    assert one(tx, "definition", flow="demo") is None
        with ledgers[0].auto() as tx:
            assert tx.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
        for ledger in ledgers:
            ledger.close()


def test_migrations_run_through_a_pooler_whatever_the_role_has_as_its_limits(empty_db_url: str, tmp_path: Path) -> None:
    """Their lock belongs to their transaction; those that start together take turns there, too."""
    equip(empty_db_url, timedelta(seconds=1))
    waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND waitstart < now() - interval '1.5s'"
    with (
        bouncer(empty_db_url, tmp_path, "transaction", size=4) as url,
        psycopg.connect(empty_db_url, autocommit=True) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        other.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK])
        done = [threads.submit(migrate.upgrade, url, TRANSACTION) for _ in range(2)]
        eventually(lambda: len(other.execute(waits).fetchall()) == 2, message="both wait for longer than they may")
        other.execute("SELECT pg_advisory_unlock_all()")
        assert [one.result() for one in done] == [None, None]
        assert migrate.current(url, TRANSACTION) == migrate.head()


def test_a_pooler_without_a_free_session_is_said(db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PATIENCE_S", 1.0)
    with bouncer(db_url, tmp_path, "session", size=2) as url:
        ledger = ledger_at(url, SESSION)
        with ledger.engine.connect(), ledger.engine.connect():
            with pytest.raises(DBAPIError, match="no session was free within 1 s") as caught:
                ledger.engine.connect()
            assert is_disconnect(caught.value)
        ledger.close()


def _errors(ledger: Ledger, count: int = 1) -> list[DBAPIError]:
    """Of so many connections at the same time."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            try:
                with ExitStack() as one:
                    one.enter_context(ledger.tx()).exec_driver_sql("SELECT 1")
                    stack.push(one.pop_all())
            except DBAPIError as exc:
                found.append(exc)
        return found


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"size": 1, "query_wait_timeout": 1}, "default_pool_size"),
        ({"max_client_conn": 2}, "orchestrator db connections"),
    ],
)
def test_a_pooler_that_has_no_room_is_an_outage_and_says_which_limit_it_is(
    db_url: str, tmp_path: Path, options: dict[str, Any], fix: str
) -> None:
    equip(db_url, LIMIT)
    with bouncer(db_url, tmp_path, "transaction", **options) as url, closing(ledger_at(url, TRANSACTION)) as ledger:
        (error,) = _errors(ledger, 2 if "size" in options else 3)
        assert is_disconnect(error)
        said = explained(error, url)
        assert isinstance(said, Unavailable)
        assert not said.refused
        assert fix in said.message
        assert _errors(ledger) == [], "it goes on when there is room"


def test_a_session_that_ends_under_a_transaction_behind_a_pooler_is_an_outage(db_url: str, tmp_path: Path) -> None:
    equip(db_url, LIMIT)
    with (
        bouncer(db_url, tmp_path, "transaction") as url,
        closing(ledger_at(url, TRANSACTION)) as ledger,
        psycopg.connect(db_url, autocommit=True) as admin,
    ):
        tx = ledger.opened()
        pid = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(DBAPIError) as caught:
            tx.exec_driver_sql("SELECT 1")
        tx.close()
        assert is_disconnect(caught.value)
        assert isinstance(explained(caught.value, url), Unavailable)
        assert _errors(ledger) == []


def test_a_pooler_that_lost_postgresql_is_an_outage(db_url: str, tmp_path: Path) -> None:
    """It takes connections, and ends them with a word of its own, until PostgreSQL lets it in again."""
    name = db_url.rpartition("/")[2]
    equip(db_url, LIMIT)
    with (
        bouncer(db_url, tmp_path, "transaction", server_login_retry=1) as url,
        closing(ledger_at(url, TRANSACTION)) as ledger,
        psycopg.connect(db_url.replace(name, "postgres"), autocommit=True) as admin,
    ):
        assert _errors(ledger) == []
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            errors = [error for _ in range(4) for error in _errors(ledger, 2)]
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        assert errors
        assert [str(error) for error in errors if not is_disconnect(error)] == []
        assert {type(explained(error, url)) for error in errors} == {Unavailable}
        eventually(lambda: _errors(ledger) == [], message="it lets us in again")


@pytest.mark.parametrize("threads_own", [True, False])
def test_a_connection_that_was_ended_while_idle_is_not_used(
    opened: Ledger, db_url: str, monkeypatch: pytest.MonkeyPatch, threads_own: bool
) -> None:
    monkeypatch.setattr(session, "IDLE_S", 0.0)

    def ask() -> Any:
        with opened.auto() as tx:
            pid = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        if not threads_own:
            opened.release_thread()
        return pid

    with psycopg.connect(db_url, autocommit=True) as admin:
        first = ask()
        assert ask() == first, "a connection that is well is kept"
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
        assert ask() != first
        if not threads_own:
            with opened.tx() as tx:
                last = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [last])
            with opened.tx() as tx:
                assert tx.exec_driver_sql("SELECT pg_backend_pid()").scalar() != last


def test_an_error_that_is_not_the_connections_costs_none(opened: Ledger) -> None:
    made = connections_of(opened)
    for error in (FlowNotFound("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            after(opened, "SELECT 1", error)
    with pytest.raises(DBAPIError), opened.auto() as tx:
        tx.exec_driver_sql("SELECT 1 / 0")
    with opened.auto() as tx:
        tx.exec_driver_sql("SELECT 1")
    assert len(made) == 1


def test_reading_a_manifest_leaves_the_prepared_statements(lab: Lab) -> None:
    """After a roll-back the driver forgets them all: each statement would be planned again."""
    manifest = lab.flow({"a": call()})
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%FROM flow_definitions%%'"
    fresh = Ledger.connect(lab.url)
    try:
        with fresh.auto() as tx:
            for _ in range(6):
                one(tx, "definition", flow="demo")
        fresh.release_thread()
        assert fresh.plan(manifest.hash).manifest == manifest
        with fresh.auto() as tx:
            assert tx.exec_driver_sql(prepared).scalar() == 1
    finally:
        fresh.close()


def test_a_connection_that_is_in_the_middle_of_something_is_not_kept(opened: Ledger) -> None:
    made = connections_of(opened)
    with pytest.raises(ValueError, match="left"):
        after(opened, "BEGIN", ValueError("left in a transaction"))
    with opened.auto() as tx:
        assert not tx.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()").scalar()
    assert len(made) == 2


@pytest.mark.parametrize("end", [Ledger.release_thread, Ledger.close])
def test_a_thread_that_ends_after_its_connection_was_lost_ends_quietly(
    opened: Ledger, end: Callable[[Ledger], None]
) -> None:
    with opened.auto() as tx:
        tx.exec_driver_sql("SELECT 1")
        driver = tx.connection.driver_connection
        assert driver is not None
    driver.close()
    end(opened)
    with opened.auto() as tx:
        assert tx.exec_driver_sql("SELECT 1").scalar() == 1


def test_many_threads_prove_the_pooler_once(db_url: str, tmp_path: Path) -> None:
    with bouncer(db_url, tmp_path, "session", size=10) as url:
        ledger, failed = ledger_at(url, SESSION), []

        def use() -> None:
            try:
                with ledger.tx() as tx:
                    tx.exec_driver_sql("SELECT pg_sleep(0.2)")
            except Exception as exc:
                failed.append(exc)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        ledger.close()
