"""Paths: `photos` is a datas3t, `photos/<first>-<last>` keys of it, and both contain files, `42.jpg`."""

import re
from dataclasses import dataclass

from datas3t.client import KeySet
from datas3t.fsspec.answers import not_found

_RANGE = re.compile(r"([0-9]{20})-([0-9]{20})")
_FILE = re.compile(r"([0-9]{1,20})(?:\.(.+))?", re.DOTALL)
_LAST_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names.

    Attributes:
        path: The path, without slashes at its ends.
        datas3t: The name of the datas3t; empty for the root.
        first: The first of the keys below it.
        last: The last of them.
        key: The key of the file; None for a folder.
        extension: The extension that the path demands; empty if it has none.
    """

    path: str
    datas3t: str = ""
    first: int = 0
    last: int = _LAST_KEY
    key: int | None = None
    extension: str = ""

    @property
    def is_range(self) -> bool:
        """Whether it is a folder of some keys of a datas3t."""
        return self.key is None and "/" in self.path

    @property
    def parent(self) -> str:
        """The path of the folder that it is in."""
        return self.path.rpartition("/")[0]

    def fits(self, name: str) -> bool:
        """Return whether the entry with this name is the file that the path names."""
        return not self.extension or name.partition(".")[2] == self.extension


def parse(path: str) -> Place:
    """Return what a path without the protocol names, whether it exists or not.

    Raises:
        FileNotFoundError: It can be nothing.
    """
    path = path.strip("/")
    if not path:
        return Place("")
    datas3t, *rest = path.split("/")
    if not rest:
        return Place(path, datas3t)
    first, last = 0, _LAST_KEY
    if keys := _RANGE.fullmatch(rest[0]):
        first, last = int(keys[1]), int(keys[2])
        rest = rest[1:]
    file = _FILE.fullmatch(rest[0]) if rest else None
    if len(rest) > 1 or (rest and file is None) or not first <= last <= _LAST_KEY:
        raise not_found(path)
    if file is None:
        return Place(path, datas3t, first, last)
    if not first <= int(file[1]) <= last:
        raise not_found(path)
    return Place(path, datas3t, first, last, int(file[1]), file[2] or "")


def folders(keys: KeySet, partition: int) -> list[str]:
    """Return the names of the folders of `partition` keys each that have some of these keys."""
    names: list[str] = []
    done = -1  # the number of the last folder
    for first, last in keys.spans:
        for number in range(max(first // partition, done + 1), last // partition + 1):
            names.append(f"{number * partition:020d}-{min((number + 1) * partition - 1, _LAST_KEY):020d}")
        done = last // partition
    return names
