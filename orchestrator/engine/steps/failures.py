"""Which failures are counted: those that no step takes up. The caller holds the run row."""

from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from orchestrator.engine.steps.wave import Wave
from orchestrator.ledger import graph


def count(wave: Wave, failed: Mapping[str, JsonValue]) -> None:
    """Count those that fail the run: they must not fail, and no step that takes up the failure runs, ran or may still.
    By key, the error, or None where it is to be looked up."""
    failed = {key: error for key, error in failed.items() if not wave.node(key).definition.may_fail}
    handlers = {handler for key in failed for handler in wave.node(key).handlers}
    states = wave.statuses(handlers | failed.keys()) if handlers else {}
    for key, error in failed.items():
        if not wave.node(key).handlers or wave.held.plan.unhandled(key, states):
            tally = wave.tally(key)
            tally.failures += 1
            tally.error = tally.error or error or graph.failure(wave.held.tx, wave.held.id, key)


def asked_for(wave: Wave, skipped: Iterable[str]) -> Iterator[str]:
    """A failure counts after all when the last step that would take it up has been skipped."""
    for key in skipped:
        yield from (name for name in wave.node(key).definition.run_after if key in wave.node(name).handlers)
