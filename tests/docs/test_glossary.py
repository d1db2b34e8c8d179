"""Every word of the glossary is still a word of the code."""

import re
from collections import Counter

import pytest

from tests.docs import pages

PAGE = "docs/glossary.md"
PARTS = re.findall(r"^## (.+)$", pages.text_of(PAGE), re.MULTILINE)
ROWS = [row for part in PARTS for row in pages.table(pages.section(PAGE, part))]


@pytest.fixture(scope="module")
def words() -> Counter[str]:
    """What stands in the code, and in its SQL: identifiers, comments included."""
    files = [
        path
        for folder in ("orchestrator", "schedules", "workers")
        for kind in ("*.py", "*.sql")
        for path in (pages.ROOT / folder).rglob(kind)
    ]
    return Counter(word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_code_still_has_a_word_of_the_glossary(row: list[str], words: Counter[str]) -> None:
    named = pages.code(row[2])
    assert named
    assert [name for name in named if name not in words] == []


def test_no_word_of_the_glossary_is_explained_twice() -> None:
    assert [word for word, count in Counter(row[0] for row in ROWS).items() if count > 1] == []
