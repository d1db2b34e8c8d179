"""What people and clients read, a module per subject. Nothing here writes."""

from orchestrator.ledger.reads import clock, events, flows, rows, runs, steps, workers

__all__ = ["clock", "events", "flows", "rows", "runs", "steps", "workers"]
