"""The groups of `orchestrator.client.groups`, over HTTP."""
