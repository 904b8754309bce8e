"""A list of files that grows while its first ones are already used, in some 50 bytes for each."""

import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import paths
from datas3t.archive.index import BLOCK
from datas3t.archive.layout import padded
from datas3t.client._files.walking import Source, Walker
from datas3t.client.errors import InvalidArgument

NO_TIME = -(1 << 63)
"""Stands for a time of modification that 64 bits of nanoseconds cannot hold."""

Hashes: TypeAlias = NDArray[np.int64]
IsKnown: TypeAlias = Callable[[Hashes, NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Returns which files are known, given the hashes of their paths, their sizes and their times of modification."""

_BATCH = 4_096  # files that are packed together
_WAKE_SECONDS = 0.2


class Batch(NamedTuple):
    """Files that were found.

    Attributes:
        names: Their names, compressed, with NUL between them.
        bases: For each the number of the folder that its name is relative to.
        sizes: Their sizes in bytes.
        mtimes: Their times of modification in nanoseconds.
    """

    names: bytes
    bases: "array[int]"
    sizes: "array[int]"
    mtimes: "array[int]"

    def unpacked(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield name, base, size and time of modification of each file."""
        names = zlib.decompress(self.names).split(b"\0")
        return zip(names, self.bases, self.sizes, self.mtimes, strict=True)


class Listing:
    """Files of some sources that are not known yet, in the order of the sources and of their paths.

    `fill` finds them in one thread, and another one iterates over the batches.

    Args:
        sources: Where to look. More than one is listed whole before the first batch can be taken.
        prefix: What paths begin with.
        walker: Finds the files.
        is_known: Tells which files are to be left out.
        stop: Ends the listing when it is set.

    Attributes:
        bases: The folders that names are relative to.
        files: How many files were found that are not known.
        size: Their size in bytes.
        stored_size: The size of their entries in archives.
        known: How many known ones were left out.
        is_complete: Whether everything was found.
    """

    def __init__(
        self, sources: Sequence[Source], prefix: str, walker: Walker, is_known: IsKnown, stop: threading.Event
    ) -> None:
        self.bases: list[bytes] = []
        self.files = self.size = self.stored_size = self.known = 0
        self.is_complete = False
        self._sources = sources
        self._prefix = prefix
        self._walker = walker
        self._is_known = is_known
        self._stop = stop
        self._numbers: dict[bytes, int] = {}  # of the bases
        self._hashes: list[Hashes] = []  # of all paths, if there are several sources
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()

    def path_of(self, name: bytes) -> str:
        """Return the path under which a file with this name is pushed."""
        return self._prefix + paths.encode(name)

    def fill(self) -> None:
        """Find all files.

        Raises:
            InvalidArgument: Two files have the same path.
        """
        whole: list[Batch] = []
        for batch in self._found():
            if len(self._sources) > 1:
                whole.append(batch)
            else:
                self._batches.put(batch)
        self._check_unique()
        self.is_complete = True
        for batch in whole:
            self._batches.put(batch)
        self._batches.put(None)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches when they have been found, and end early when the listing was stopped."""
        while not self._stop.is_set():
            try:
                batch = self._batches.get(timeout=_WAKE_SECONDS)
            except Empty:
                continue
            if batch is None:
                return
            yield batch

    def _found(self) -> Iterator[Batch]:
        names: list[bytes] = []
        bases, sizes, mtimes = array("I"), array("q"), array("q")
        for source in self._sources:
            base = self._numbers.setdefault(source.base, len(self.bases))
            if base == len(self.bases):
                self.bases.append(source.base)
            for name, size, mtime in self._walker.find(source):
                names.append(name)
                bases.append(base)
                sizes.append(size)
                mtimes.append(stored_time(mtime))
                if len(names) == _BATCH:
                    if self._stop.is_set():
                        return
                    yield from self._packed(names, bases, sizes, mtimes)
                    names, bases, sizes, mtimes = [], array("I"), array("q"), array("q")
        yield from self._packed(names, bases, sizes, mtimes)

    def _packed(
        self, names: list[bytes], bases: "array[int]", sizes: "array[int]", mtimes: "array[int]"
    ) -> Iterator[Batch]:
        """Yield the files that are not known as a batch, unless all are."""
        hashes = hashes_of([self.path_of(name) for name in names])
        if len(self._sources) > 1:
            self._hashes.append(hashes)
        known = self._is_known(hashes, np.array(sizes, np.int64), np.array(mtimes, np.int64))
        if known.any():
            self.known += int(known.sum())
            new = np.flatnonzero(~known).tolist()
            names = [names[at] for at in new]
            bases, sizes, mtimes = (
                array(column.typecode, [column[at] for at in new]) for column in (bases, sizes, mtimes)
            )
        if names:
            self.files += len(names)
            self.size += sum(sizes)
            self.stored_size += len(names) * BLOCK + int(padded(np.array(sizes, np.int64)).sum())
            yield Batch(zlib.compress(b"\0".join(names), 1), bases, sizes, mtimes)

    def _check_unique(self) -> None:
        if not self._hashes:
            return
        found, counts = np.unique(np.concatenate(self._hashes), return_counts=True)
        self._hashes = []
        suspicious = set(found[counts > 1].tolist())
        if not suspicious:
            return
        files: dict[str, bytes] = {}
        for source in self._sources:
            for name, _, _ in Walker(follow_links=self._walker.follow_links).find(source):
                path = self.path_of(name)
                if hash(path) in suspicious:
                    file = source.base + name
                    if (other := files.setdefault(path, file)) is not file:
                        raise InvalidArgument(_clash(path, other, file))


def stored_time(mtime_ns: int) -> int:
    """Return a time of modification as it is stored: NO_TIME if it does not fit."""
    return mtime_ns if -(1 << 63) < mtime_ns < 1 << 63 else NO_TIME


def hashes_of(texts: Sequence[str]) -> Hashes:
    """Return hashes of 64 bits, which are the same only within this process."""
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def _clash(path: str, one: bytes, other: bytes) -> str:
    files = " and ".join(repr(paths.encode(file)) for file in (one, other))
    return f"{files} would both have the path {path!r}; push them one after the other, each with its own prefix"
