"""Calls of flows: a run that is started by a step of another run, and whose end is that of the step."""
