"""What people see of the values of runs: everything but the secrets. Programs read values by `result` and `output`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from pydantic import JsonValue

from orchestrator.core.secrets import Paths
from orchestrator.core.taint import FlowSecrets
from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger import reads
from orchestrator.ledger.reads.flows import Reader
from orchestrator.ledger.reads.rows import AttemptRow, RunRow
from orchestrator.ledger.tx import Ledger


def rows(ledger: Ledger, found: Iterable[RunRow]) -> list[RunRow]:
    """Runs, without the secrets of their inputs. An input that nobody here can read the rules of is not shown."""
    return [_row(ledger, row) for row in found]


def row(ledger: Ledger, run_id: UUID) -> RunRow:
    """
    Raises:
        RunNotFound: no such run.
    """
    return _row(ledger, reads.runs.get(ledger, run_id))


def row_with_last_event(ledger: Ledger, run_id: UUID) -> tuple[RunRow, int]:
    """As `row`, and the id of its last event: another one as soon as anything happens in the run.

    Raises:
        RunNotFound: no such run.
    """
    found, last = reads.runs.with_last_event(ledger, run_id)
    return _row(ledger, found), last


def _row(ledger: Ledger, found: RunRow) -> RunRow:
    if not found.body:  # not asked for, or empty
        return found
    try:
        secrets = ledger.secrets(found.manifest_hash)
    except ManifestUnreadable:
        return replace(found, body=None)
    return replace(found, body=secrets.shown(found.body, secrets.input))


@dataclass(frozen=True, slots=True)
class Seen:
    """A value without its secrets. `masked`: there are some in it."""

    value: JsonValue
    masked: bool


def result(ledger: Ledger, run_id: UUID) -> JsonValue:
    """What a run returned.

    Raises:
        RunNotFound, OutputInvalid: there is no such run; its output cannot be made.
    """
    return seen_result(ledger, run_id).value


def seen_result(ledger: Ledger, run_id: UUID) -> Seen:
    """As `result`, and whether that is all."""
    secrets = _secrets(ledger, run_id)
    return _seen(secrets, reads.runs.result(ledger, run_id), secrets.output)


def output(ledger: Ledger, run_id: UUID, step_key: str) -> JsonValue:
    """What a step returned.

    Raises:
        RunNotFound, StepNotFound: there is no such step, or it has no output.
    """
    return seen_output(ledger, run_id, step_key).value


def seen_output(ledger: Ledger, run_id: UUID, step_key: str) -> Seen:
    """As `output`, and whether that is all."""
    value, secrets = reads.steps.output(ledger, run_id, step_key), _secrets(ledger, run_id)
    return _seen(secrets, value, secrets.step(step_key).output)


def _seen(secrets: FlowSecrets, value: JsonValue, paths: Paths) -> Seen:
    shown = secrets.shown(value, paths)
    return Seen(shown, masked=shown != value)


def attempts(
    ledger: Ledger, run_id: UUID, step_key: str, before: int | None = None, limit: int = 1000
) -> list[AttemptRow]:
    """See `reads.steps.attempts`: their inputs are recorded without secrets, but for fields that only their names make
    secret, in objects of no known type; and those that a release before recorded."""
    found = reads.steps.attempts(ledger, run_id, step_key, before, limit)
    secrets = _secrets(ledger, run_id)
    paths = secrets.step(step_key).inputs
    return [replace(one, inputs=secrets.shown(one.inputs, paths)) for one in found]


def given_outputs(ledger: Ledger, by: Reader, limit: int) -> tuple[list[JsonValue], int]:
    """See `reads.flows.given_outputs`; those with secrets are among the ones that cannot be read."""
    found, left = reads.flows.given_outputs(ledger, by, limit)
    secrets = ledger.secrets(by.version)
    paths = secrets.step(by.source).output
    plain = [value for value in found if secrets.shown(value, paths) == value]
    return plain, left + len(found) - len(plain)


def _secrets(ledger: Ledger, run_id: UUID) -> FlowSecrets:
    return ledger.secrets(reads.runs.plan_of(ledger, run_id).manifest.hash)
