"""`python -m orchestrator`: the console script by another name."""

import os
import sys

if sys.path and sys.path[0] == os.getcwd():
    # Python put the current folder there, and a project may have a `redis.py` of its own; its flows are found anyway.
    del sys.path[0]

from orchestrator.cli import main

if __name__ == "__main__":
    main()
