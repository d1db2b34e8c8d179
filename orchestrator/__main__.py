"""`python -m orchestrator`: the console script by another name."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
