"""The pages, and what stands in them: fenced blocks, commands, tables, links."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CELL: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Block:
    """A fenced block. `name` is the file that its first line names, as in `# shop.py`."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str | None:
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def paths() -> list[Path]:
    """Every page that users read."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")), *_examples()]


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").rglob("*.md"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(language: str, *, page: str | None = None) -> list[Block]:
    """The fenced blocks of one language, in order, of one page or of all."""
    return [
        Block(name_of(path), found[1], found[2])
        for path in paths()
        if page in (None, name_of(path))
        for found in _FENCE.finditer(path.read_text(encoding="utf-8"))
        if found[1] == language
    ]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def section(page: str, heading: str) -> str:
    """What stands below one heading, without fenced blocks, up to the next heading of its level or above."""
    text = prose(page)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{page} has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str, number: int = 0) -> list[list[str]]:
    """The cells of a table's rows, without the heading."""
    tables = re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE)
    rows = [row for row in tables[number].splitlines() if not re.fullmatch(r"\|(?:-+\|)+", row)]
    return [[cell.strip() for cell in _CELL.split(row)[1:-1]] for row in rows[1:]]


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
