"""Folders of files."""

import os
from collections.abc import Mapping
from pathlib import Path


def filled(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files with these paths below a folder, and return the folder."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def described(folder: Path) -> dict[bytes, tuple[bytes, int]]:
    """Return the content and the time of modification of every file below a folder, by its name."""
    base = os.fsencode(folder)
    found = {}
    for path, _, names in os.walk(base):
        for name in names:
            file = os.path.join(path, name)
            found[os.path.relpath(file, base)] = Path(os.fsdecode(file)).read_bytes(), os.stat(file).st_mtime_ns
    return found
