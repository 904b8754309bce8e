"""docs/secrets.md names modules and tests that exist, and every module whose objects hide fields from their repr."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/secrets.md").read_text()
SOURCES = ("client", "server", "cli")


def rows() -> list[tuple[str, str]]:
    """Return the module cell and the test cell of each place in the page's tables."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"]
    return [(row[2], row[3]) for row in cells if len(row) == 4 and "`" in row[2]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names_of_tests(file: Path) -> set[str]:
    """Return the names of the test functions in a file."""
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_place_names_a_module_and_a_test() -> None:
    assert len(rows()) > 30
    assert all(quoted(modules) and quoted(tests) for modules, tests in rows())


def test_every_named_module_exists() -> None:
    modules = {module for cell, _ in rows() for module in quoted(cell)}
    assert [module for module in sorted(modules) if not (ROOT / module).is_file()] == []


def test_every_named_test_exists() -> None:
    named = {tuple(test.split("::")) for _, cell in rows() for test in quoted(cell)}
    missing = [f"{file}::{name}" for file, name in sorted(named) if name not in names_of_tests(ROOT / file)]
    assert missing == []


def test_every_module_that_hides_a_field_from_a_repr_is_on_the_page() -> None:
    files = [file for source in SOURCES for file in (ROOT / source).rglob("*.py") if "repr=False" in file.read_text()]
    assert files
    assert [file for file in files if f"`{file.relative_to(ROOT)}`" not in PAGE] == []
