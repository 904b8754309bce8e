"""Write the generated pages of docs/. With --check, write nothing and fail if a page is stale."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import command_line  # noqa: E402 - these scripts are in the same folder
import reference  # noqa: E402

PAGES = {"api.md": reference.api, "cli.md": command_line.page, "errors.md": reference.errors}


def stale() -> list[str]:
    """Return the names of the pages that `make gen` would change."""
    return [name for name, make in PAGES.items() if not _same(HERE / name, make())]


def _same(page: Path, text: str) -> bool:
    return page.exists() and page.read_text() == text


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"stale, run make gen: {', '.join(stale())}" if stale() else 0)
    for name, make in PAGES.items():
        (HERE / name).write_text(make())
