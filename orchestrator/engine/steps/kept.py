"""How much of an attempt the ledger keeps for whoever looks at it later, however the attempt ended."""

from typing import Final

INPUTS_KEPT: Final = 64 * 1024
"""Longer inputs are not copied to the attempt: the references say where they came from."""
TRACEBACK_KEPT: Final = 16_000
"""Characters of a traceback that are stored: its end, where the cause is."""


def kept_inputs(inputs: str | None) -> str | None:
    """`inputs` (JSON text), unless they are too long to be kept with each attempt."""
    return inputs if inputs is not None and len(inputs) <= INPUTS_KEPT else None


def kept_traceback(text: str | None) -> str | None:
    """The end of a traceback."""
    return text and text[-TRACEBACK_KEPT:]
