"""What happened, as facts, and the judge of it. Nothing here imports the engine or the ledger: a test enforces that."""
