"""A disk that is full: how the operating system says so, and the servers after it."""

import errno
import os
import re
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a full disk, of a used-up quota, and of a limit on the size of files."""
SAID: Final = "|".join(re.escape(os.strerror(code)) for code in FULL)
"""Finds what they are called. PostgreSQL gives a code to the first of them only."""


def complaint(text: str) -> str | None:
    """The last line of a server's log in which it says so."""
    found = [line.strip() for line in text.splitlines() if re.search(SAID, line)]
    return found[-1] if found else None
