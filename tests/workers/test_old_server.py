"""A PostgreSQL older than the oldest one that was tried is refused before anything is done."""

import psycopg
import pytest

from orchestrator.doctor import examine
from orchestrator.errors import Unavailable
from orchestrator.ledger import migrate
from orchestrator.settings import Settings
from orchestrator.workers.app.start import prepare


@pytest.mark.parametrize("migrates", [True, False])
def test_an_old_server_is_refused_at_start(
    settings: Settings, empty_db_url: str, monkeypatch: pytest.MonkeyPatch, migrates: bool
) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    old = Settings(database_url=empty_db_url, broker_url=settings.broker_url, migrate=migrates)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"is too old\. Fix: upgrade it to PostgreSQL 99 or newer"):
        prepare(old, {})
    with psycopg.connect(empty_db_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_doctor_names_an_old_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    (found,) = [one for one in examine(settings) if one.status == "fail"]
    assert (found.check, found.fix) == ("database version", "upgrade to PostgreSQL 99 or newer.")
