"""The tests of the command line run twice: with a database URL, and with the URL of an API. But for these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_ROLE: Final = "about a role of PostgreSQL"
_SERVERS: Final = "about the servers themselves"
DATABASE_ONLY: Final[Mapping[str, str]] = {
    "test_access.py::test_the_audit_is_read_in_pages_and_purged_by_its_owner": "only the owner of the schema purges",
    "test_access.py::test_the_role_of_the_running_processes_does_their_work": _ROLE,
    "test_access.py::test_that_role_cannot_change_what_was_done_nor_the_schema": _ROLE,
    "test_access.py::test_that_role_cannot_purge_the_audit": _ROLE,
    "test_connections.py": "what connects to the database is counted there",
    "test_flow.py::test_check_names_a_ledger": "names ledgers by their URLs",
    "test_flow.py::test_check_reads_long_results_where_they_are": "the API has the payload store, not this machine",
    "test_system.py::test_a_wrong_option_is_a_usage_error": "no command comes so far",
    "test_system.py::test_doctor_is_content_with_a_good_installation": _SERVERS,
    "test_system.py::test_doctor_is_content_with_a_keeper_where_workers_may_go_to_zero": _SERVERS,
    "test_system.py::test_doctor_finds_queues_that_nobody_serves": _SERVERS,
    "test_system.py::test_doctor_tells_of_an_evicting_broker_and_of_embedded_servers": _SERVERS,
    "test_system.py::test_doctor_measures_the_clock": _SERVERS,
    "test_system.py::test_a_broker_that_is_down_delays_a_run_and_says_so": "the API has the broker, not this machine",
}
"""A test, or a module of them, and why it makes sense with a database only."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who does something: with a database whoever is named, over HTTP whoever has the key."""

    names: bool

    def by(self, name: str) -> list[str]:
        """The option that names somebody, if that may be."""
        return ["--as", name] if self.names else []

    def recorded(self, name: str) -> str:
        """Who is on record then."""
        return name if self.names else "local"
