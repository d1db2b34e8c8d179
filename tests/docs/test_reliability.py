"""The page of guarantees names tests that exist."""

import re

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reliability.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    """Renaming one means changing the page."""
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_line_of_its_tables_names_a_test() -> None:
    """A promise without one has no place there."""
    page = PAGE.read_text(encoding="utf-8").split("Not shown here")[0]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| moment ")]
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row and not row.startswith("| | |")] == []
