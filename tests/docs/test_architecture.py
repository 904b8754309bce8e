"""Test that docs/architecture.md names every dependency and package folder, and that its claims about imports hold."""

import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
SOURCES = ("client", "server", "cli")


def section(heading: str) -> str:
    """Return the text of a section of the page."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def named_folders() -> Iterator[Path]:
    """Yield the folders of the tree under "Folders": each line names one, indented below its parent."""
    tree = section("Folders").split("```")[1]
    parents: list[tuple[int, Path]] = []
    for line in tree.strip("\n").splitlines():
        name = re.match(r"( *)(\S+)/(?: |$)", line)
        assert name is not None, f"not a line of the tree: {line!r}"
        indent = len(name[1])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        folder = parents[-1][1] / name[2] if parents else Path(name[2])
        parents.append((indent, folder))
        yield folder


def test_every_folder_of_the_tree_exists() -> None:
    missing = [str(folder) for folder in named_folders() if not (ROOT / folder).is_dir()]
    assert missing == [], "remove them from the tree in docs/architecture.md"


def test_the_tree_has_every_package_folder() -> None:
    packages = {path.parent.relative_to(ROOT) for source in SOURCES for path in (ROOT / source).rglob("*.py")}
    packages -= {Path(source) / "datas3t" for source in SOURCES}  # the namespace package, which has no __init__.py
    missing = sorted(map(str, packages - set(named_folders())))
    assert missing == [], "add them to the tree in docs/architecture.md"


def test_every_dependency_is_named_with_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(each for extra in extras.values() for each in extra)]
    dependencies = {re.split(r"[^A-Za-z0-9._-]", each)[0] for each in requirements} - {project["name"]}
    named = set(re.findall(r"[A-Za-z0-9._-]+", section("Libraries, and what each is for")))
    missing = sorted(dependencies - named)
    assert missing == [], "name them with their reason in docs/architecture.md"


def test_there_is_no_import_circle() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the modules
    assert "datas3t.server.app.server" in order


# What keeps the folders readable. Generated code and the files that only name a package do not count.
MAX_LINES = 350
FEW_LINES, MAX_OF_FEW_LINES = 40, 19
MAX_ENTRIES = {"client/datas3t/client": 10, "server/datas3t/server": 26}


def test_modules_are_neither_long_nor_scattered() -> None:
    modules = [path for source in SOURCES for path in (ROOT / source).rglob("*.py") if "__" not in path.name]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert [path for path, count in lines.items() if count > MAX_LINES] == [], "split them by subject"
    few = sorted(path for path, count in lines.items() if count < FEW_LINES)
    assert len(few) <= MAX_OF_FEW_LINES, f"join some of these with the module of their subject: {few}"


def test_a_package_has_few_entries_at_its_top() -> None:
    for folder, most in MAX_ENTRIES.items():
        entries = [path.name for path in (ROOT / folder).iterdir() if path.suffix == ".py" or path.is_dir()]
        counted = [name for name in entries if name not in ("__init__.py", "__pycache__")]
        assert len(counted) <= most, f"{folder} has {sorted(counted)}"
