"""What a setting is called in the environment."""

from typing import Final

PREFIX: Final = "ORCHESTRATOR_"


def variable(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return PREFIX + field.upper()
