"""Files that other processes append to."""

from pathlib import Path


def whole_lines(file: Path) -> list[str]:
    """Its lines, but for one that is being written: where a page of the file ends, half of it may be there already."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()
