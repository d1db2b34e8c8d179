"""What the README and `docs/` say is run, or compared with the code."""
