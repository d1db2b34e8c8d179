"""`orchestrator dev`: the whole stack on one machine, for one developer.

options.py     what the command line gives
data_dir.py    the data directory: lock, state file, what a killed predecessor left
stack.py       the two servers, ours or the user's
children.py    one worker or Flower process
output.py      the ready block; everything else, line by line, on stderr
supervisor.py  start, watch, restart, stop
"""

from orchestrator.dev.options import DevOptions
from orchestrator.dev.supervisor import run_dev

__all__ = ["DevOptions", "run_dev"]
