"""What a record is made of."""

import logging
from typing import Final

STANDARD: Final = frozenset(
    {
        *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
        *("message", "asctime", "taskName", "data"),
        "color_message",  # uvicorn's: the same once more
        "exc_type",
    }
)
"""Attributes that are no facts."""
