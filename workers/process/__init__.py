"""The programs `orchestrator worker`, `beat` and `flower`, and the process that watches over several."""
