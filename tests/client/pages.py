"""Runs the Python blocks of a page of docs/, from the first to the last, and uploads what they read."""

import re
from pathlib import Path
from typing import Any

from datas3t.archive import names, write
from datas3t.client import Client

DOCS = Path(__file__).parents[2] / "docs"


def upload(client: Client, name: str, path: Path, extension: str, contents: list[bytes], first: int = 100) -> None:
    """Upload datapoints that are numbered from `first` on."""
    entries = (
        write.header(names.entry_name(key, extension), len(content)) + content + write.padding(len(content))
        for key, content in enumerate(contents, first)
    )
    path.write_bytes(b"".join(entries) + write.END)
    client.upload_tar(name, path)


def run(page: str, known: dict[str, Any], replacing: dict[str, str]) -> dict[str, Any]:
    """Run the blocks of a page, and return the names that they leave.

    Args:
        page: The name of the page.
        known: Names that the page takes for granted.
        replacing: Texts in the blocks, and what is run in their place.
    """
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        for text, other in replacing.items():
            block = block.replace(text, other)  # noqa: PLW2901
        exec(compile(block, f"docs/{page}", "exec"), known)
    return known
