"""Test that the pages for contributors name only files and folders that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = "|".join(("bench", "cli", "client", "demo", "docs", "gen", "proto", "server", "tests"))
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "tests/*.md", "bench/*.md")
    for page in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_path_in_backticks_exists(page: Path) -> None:
    text = (ROOT / page).read_text()
    paths = set(re.findall(rf"`((?:{TOP})/[\w./-]*)`", text))
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert missing == [], f"{page} names files that do not exist"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = (ROOT / page).read_text()
    links = set(re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text))
    missing = sorted(link for link in links if not (ROOT / page.parent / link).exists())
    assert missing == [], f"{page} links to files that do not exist"
