"""The dossier's pages are what its tool makes of docs/results.md: numbers cannot drift apart."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "validation"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("validation_dossier", ROOT / "tools" / "validation_dossier.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(tool):
    made = tool.pages()
    assert len(made) == 4
    for name, page in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == page, (
            f"docs/validation/{name} is not what docs/results.md says now: python tools/validation_dossier.py"
        )


def test_every_claim_has_a_number_and_says_what_it_leaves_open(tool):
    pages = tool.pages()
    rows = [
        line for name in ("verification.md", "analytical.md") for line in pages[name].splitlines() if line[:2] == "| "
    ]
    assert len(rows) > 20
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 5, row
        assert all(cells), row
        if cells[0] != "figure":
            assert re.search(r"\d", cells[3]), row


def test_a_number_that_is_gone_stops_the_tool(tool):
    results = tool.Results("## A\n\n| x | y |\n|---|---|\n| **one** (a) | 2 **3** |\n\nIt gave 5 of\n10 points.\n")
    assert results.cell("A", "one", "y") == "2 3"
    assert results.sentence("A", r"gave (\d of\s+\d+) points") == "5 of 10"
    for call in (
        lambda: results.cell("B", "one", "y"),
        lambda: results.cell("A", "two", "y"),
        lambda: results.sentence("A", "took (.*)"),
        lambda: tool.metric({"a": {}}, "a.b"),
        lambda: tool.result_of({"what": "w", "result": {"section": "A", "row": "zz", "column": "y"}}, results),
    ):
        with pytest.raises(tool.Missing):
            call()


def test_every_link_of_the_dossier_leads_somewhere():
    pages = sorted(FOLDER.glob("*.md"))
    assert len(pages) >= 6
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
