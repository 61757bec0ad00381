"""docs/comparison.md: each feature names its tests, and each statement about another project its source."""

from __future__ import annotations

import re

import pytest

from support.named_tests import ROOT, check_named_tests

PAGE = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
HEAD, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|")
]
SOURCES = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("row", [row for row in ROWS if row[1]], ids=lambda row: row[0][:30])
def test_a_feature_names_its_tests(row: list[str]) -> None:
    """Each file of tests is there, and has a test for each word that selects some of them."""
    assert check_named_tests(row[1]), row[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:30])
def test_a_statement_has_a_source(row: list[str]) -> None:
    """A cell about another project links to the page that says so, or says that nothing is documented."""
    assert len(row) == len(HEAD)
    for project, cell in zip(HEAD[2:], row[2:], strict=True):
        source = re.fullmatch(r"\[[^\]]+\]\[([\w-]+)\]", cell)
        assert cell == "not documented" or (source and source[1] in SOURCES), (project, cell)


def test_sources_are_used_and_are_pages() -> None:
    """Each source is a URL that a cell links to."""
    assert set(SOURCES) == set(re.findall(r"\]\[([\w-]+)\]", PAGE))
    assert all(url.startswith("https://") for url in SOURCES.values())
