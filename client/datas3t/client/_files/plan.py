"""Divides files among archives of about one size, and finds again what an earlier run has begun."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.archive.index import BLOCK, END_SIZE, padded
from datas3t.client._files.pack import extension
from datas3t.client._transfers.open_upload import to_tell

MAX_FILES = 1 << 16  # of one archive: bounds the memory for archives of empty files

Listed = tuple[bytes, int, int, int]
"""Name, base, size and time of modification of a file, as `Batch.unpacked` yields them."""


class Begun(NamedTuple):
    """An archive that an earlier run has begun.

    Attributes:
        request_id: What identifies it.
        path: The path of its first file.
        files: How many files it has.
        digest: The digest of its files.
        extension: The extension that the server is told of it.
    """

    request_id: str
    path: str
    files: int
    digest: str
    extension: str


@dataclass(slots=True)
class Group:
    """The files of one archive.

    Attributes:
        names: Their names.
        bases: For each the number of the folder that its name is relative to.
        sizes: Their sizes in bytes.
        mtimes: Their times of modification in nanoseconds.
        kinds: For each the number of its extension.
        extensions: The extensions.
        begun: The archive of an earlier run with the same files, if there is one.
    """

    names: list[bytes]
    bases: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    kinds: NDArray[np.uint32]
    extensions: list[str]
    begun: Begun | None = None

    @property
    def extension(self) -> str:
        """The extension that all files have, as the server is told it; empty if they have different ones."""
        return to_tell(self.extensions[0]) if len(self.extensions) == 1 else ""

    def digest(self) -> str:
        """Return what changes if any of the files is another one, or was modified."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(b"\0".join(self.names))
        for column in (self.bases, self.sizes, self.mtimes):
            digest.update(column.tobytes())
        return digest.hexdigest()


@dataclass(slots=True)
class Planner:
    """Divides a stream of files among archives.

    Args:
        limit: The size of an archive in bytes. Only a single file may make a larger one.
        path_of: Returns the path of a file by its name.
        begun: What an earlier run has begun, by the path of the first file.
    """

    limit: int
    path_of: Callable[[bytes], str]
    begun: Mapping[str, Begun] = field(default_factory=dict)

    def groups(self, files: Iterable[Listed]) -> Iterator[Group]:
        """Yield the files of each archive, in order. Files of an archive that was begun stay together."""
        stream = iter(files)
        begun = {path: each for path, each in self.begun.items() if each.files <= MAX_FILES}
        group: list[Listed] = []
        size = END_SIZE
        while (file := next(stream, None)) is not None:
            entry = BLOCK + padded(file[2])
            found = begun.pop(self.path_of(file[0]), None) if begun else None
            if group and (found or size + entry > self.limit or len(group) == MAX_FILES):
                yield grouped(group)
                group, size = [], END_SIZE
            if found is None:
                group.append(file)
                size += entry
                continue
            together = [file, *islice(stream, found.files - 1)]
            if (again := grouped(together)).digest() == found.digest:
                again.begun = found
                yield again
            else:  # a file was added, removed or modified: divide them again
                stream = chain(together, stream)
        if group:
            yield grouped(group)


def grouped(files: Sequence[Listed]) -> Group:
    """Return files as the group of one archive."""
    names, bases, sizes, mtimes = zip(*files, strict=True)
    numbers: dict[str, int] = {}  # of the extensions
    kinds = [numbers.setdefault(extension(os.path.basename(name)), len(numbers)) for name in names]
    return Group(
        list(names),
        np.array(bases, np.uint32),
        np.array(sizes, np.int64),
        np.array(mtimes, np.int64),
        np.array(kinds, np.uint32),
        list(numbers),
    )
