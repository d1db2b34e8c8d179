"""RedBeat and the ledger: entries, the mirror, and real beats under faults."""
