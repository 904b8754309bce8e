"""Test that tests/README.md names every shared fixture and every support module."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "README.md").read_text()
CONFTESTS = sorted(TESTS.rglob("conftest.py"))


def fixtures_in(path: Path) -> set[str]:
    """Return the names of the fixtures that a conftest defines."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any("pytest.fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


@pytest.mark.parametrize("path", CONFTESTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_every_shared_fixture_has_a_row(path: Path) -> None:
    missing = sorted(name for name in fixtures_in(path) if f"\n| `{name}` |" not in PAGE)
    assert missing == [], "describe them in tests/README.md"


def test_every_row_of_a_fixture_is_about_one_that_exists() -> None:
    fixtures = set.union(*map(fixtures_in, CONFTESTS))
    section = PAGE.partition("\n## Fixtures\n")[2].partition("\n## ")[0]
    rows = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert rows - fixtures == set(), "remove them from tests/README.md"


def test_every_support_module_has_a_row() -> None:
    modules = {path.name for path in (TESTS / "support").glob("*.py")}
    missing = sorted(name for name in modules if f"| `tests/support/{name}` |" not in PAGE)
    assert missing == [], "describe them in tests/README.md"


def test_every_folder_of_tests_has_a_row() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    missing = sorted(folder for folder in folders if f"\n| `{folder}/` |" not in PAGE)
    assert missing == [], "describe them in tests/README.md"
