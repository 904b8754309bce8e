"""Finds the files in folders, in the order of their paths, with what is left out or refused."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_MAX_REMEMBERED = 100  # messages that are kept; of a million refused files, the others are counted


class Source(NamedTuple):
    """What to find: a file, or a folder with everything in it.

    Attributes:
        base: The folder that names are relative to, with a slash at its end; empty for the working folder.
        name: The file or folder, relative to it; empty for everything in it.
    """

    base: bytes
    name: bytes


class Found(NamedTuple):
    """A regular file.

    Attributes:
        name: Its name, relative to the base of its source.
        size: Its size in bytes.
        mtime_ns: The time of its last modification, in nanoseconds.
    """

    name: bytes
    size: int
    mtime_ns: int


@dataclass
class Messages:
    """Messages about files, of which the first ones are kept. Safe for one thread."""

    count: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, text: str, count: int = 1) -> None:
        """Add a message about `count` files."""
        self.count += count
        if len(self.texts) < _MAX_REMEMBERED:
            self.texts.append(text)


class Walker:
    """Finds files.

    Args:
        follow_links: Whether links to folders are followed.

    Attributes:
        left_out: Devices, pipes and sockets, and links that lead back to a folder that they are in.
        refused: What should have been found but cannot be.
    """

    def __init__(self, *, follow_links: bool) -> None:
        self.follow_links = follow_links
        self.left_out = Messages()
        self.refused = Messages()

    def find(self, source: Source) -> Iterator[Found]:
        """Yield the files of a source, by path. A link that the source itself names is followed."""
        path = source.base + source.name
        if (status := self._status(path)) is None:
            return
        if stat.S_ISDIR(status.st_mode):
            yield from self._in_folder(source, status)
        elif self._is_regular(path, status):
            yield Found(source.name, status.st_size, status.st_mtime_ns)

    def _in_folder(self, source: Source, status: os.stat_result) -> Iterator[Found]:
        """Yield the files below a folder. Recursion would cost each file as many calls as its path has components."""
        folders = [self._opened(source.base, source.name, status)]
        while folders:
            folder = folders[-1]
            for entry in folder.entries:
                path = folder.path + entry
                if (found := self._status(path)) is None:
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    if self._is_regular(path, found):
                        yield Found(folder.prefix + entry, found.st_size, found.st_mtime_ns)
                elif not os.path.islink(path) or self._is_to_follow(path, found, folders):
                    folders.append(self._opened(source.base, folder.prefix + entry, found))
                    break
            else:
                folders.pop()

    def _opened(self, base: bytes, name: bytes, status: os.stat_result) -> "_Folder":
        prefix = name + b"/" if name and not name.endswith(b"/") else name
        path = base + prefix
        entries: list[bytes] = []
        try:
            entries = sorted(os.listdir(path or b"."))
        except OSError as error:
            self.refused.add(f"{_text(path)} cannot be read: {error.strerror}")
        return _Folder(path, prefix, iter(entries), _identity(status))

    def _is_to_follow(self, path: bytes, target: os.stat_result, folders: "list[_Folder]") -> bool:
        """Return whether a link to a folder is to be followed, from the innermost of these folders."""
        if not self.follow_links:
            self.refused.add(f"{_text(path)} is a link to a folder; follow links, or name that folder itself")
            return False
        if any(_identity(target) == each.identity for each in folders):
            self.left_out.add(f"{_text(path)} leads back to a folder that it is in")
            return False
        return True

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            return os.stat(path or b".")
        except OSError as error:
            self.refused.add(f"{_text(path)} cannot be read: {error.strerror}")
            return None

    def _is_regular(self, path: bytes, status: os.stat_result) -> bool:
        if stat.S_ISREG(status.st_mode):
            return True
        self.left_out.add(f"{_text(path)} is a device, a pipe or a socket")
        return False


@dataclass(slots=True)
class _Folder:
    """A folder whose entries are being visited; the folders around it are visited too."""

    path: bytes
    prefix: bytes
    entries: Iterator[bytes]
    identity: tuple[int, int]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _text(path: bytes) -> str:
    return os.fsdecode(path)
