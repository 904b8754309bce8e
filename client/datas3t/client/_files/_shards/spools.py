"""Archives on disk, made of the samples of a shard while it is read, until they are committed."""

import json
import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from datas3t.archive import names, write
from datas3t.archive.index import padded
from datas3t.client._files._shards.members import File
from datas3t.client.errors import FileError

MISSING = "missing"  # the extension of an empty datapoint where a sample lacks a field
NESTED = "tar"  # the extension of a datapoint that has all files of a sample

_BUFFER = 1 << 20  # bytes


class Archive(NamedTuple):
    """An archive that is complete.

    Attributes:
        field: The field that it has; empty if it has whole samples.
        path: The archive.
        paths: The paths of its datapoints in the table `files`: a JSON text, or null, on a line for each.
    """

    field: str
    path: Path
    paths: Path


class Spool:
    """One archive on disk, which is written to its end.

    Args:
        field: The field that it has; empty if it has whole samples.
        folder: Where its files are.
        name: What they are named.
        first: The key of the first datapoint, as it is presumed to be; see `number`.

    Attributes:
        count: How many datapoints it has.
        size: The bytes of the archive.
    """

    def __init__(self, field: str, folder: Path, name: str, first: int) -> None:
        self.field = field
        self.count = self.size = 0
        self._first = first
        self._archive = Archive(field, folder / f"{name}.tar", folder / f"{name}.paths")
        self._positions, self._sizes = array("Q"), array("Q")
        self._present = bytearray()  # one byte for each datapoint: whether its sample has it
        with _writing():
            self._out = self._archive.path.open("w+b", buffering=_BUFFER)
            self._paths = self._archive.paths.open("w", encoding="utf-8", buffering=_BUFFER)

    def add(self, path: str | None, size: int, content: Iterable[bytes]) -> None:
        """Add a datapoint; without a path, one that its sample lacks."""
        header = self._header(self._first + self.count, size, is_present=path is not None)
        with _writing():
            self._out.write(header)
            self._write(content)
            self._out.write(write.padding(size))
        self._note(path, size, len(header))

    def begin(self) -> None:
        """Begin a datapoint that is added piece by piece by `write`, and ended by `end`."""
        with _writing():
            self._out.write(write.header(names.entry_name(self._first, NESTED), 0, any_size=True))

    def write(self, content: Iterable[bytes]) -> int:
        """Add pieces to the datapoint that was begun. Return their size."""
        with _writing():
            return self._write(content)

    def end(self, path: str, size: int) -> None:
        """End the datapoint that was begun; it has `size` bytes."""
        header = self._header(self._first + self.count, size, is_present=True)
        with _writing():
            self._out.write(write.padding(size))
            self._out.seek(self.size)
            self._out.write(header)
            self._out.seek(0, os.SEEK_END)
        self._note(path, size, len(header))

    def number(self, first: int) -> None:
        """Give the datapoints the keys from `first` on. Headers have the same size for all keys."""
        if first == self._first:
            return
        self._first = first
        with _writing():
            for number, (position, size) in enumerate(zip(self._positions, self._sizes, strict=True)):
                self._out.seek(position)
                self._out.write(self._header(first + number, size, is_present=bool(self._present[number])))
            self._out.seek(0, os.SEEK_END)

    def complete(self) -> Archive:
        """Write the end marker, and close the files."""
        with _writing():
            self._out.write(write.END)
            self.close()
        return self._archive

    def close(self) -> None:
        """Close the files."""
        self._out.close()
        self._paths.close()

    def _header(self, key: int, size: int, *, is_present: bool) -> bytes:
        extension = (self.field or NESTED) if is_present else MISSING
        return write.header(names.entry_name(key, extension), size, any_size=not self.field)

    def _write(self, content: Iterable[bytes]) -> int:
        size = 0
        for piece in content:
            self._out.write(piece)
            size += len(piece)
        return size

    def _note(self, path: str | None, size: int, header_size: int) -> None:
        self._positions.append(self.size)
        self._sizes.append(size)
        self._present.append(path is not None)
        self._paths.write(f"{json.dumps(path)}\n")
        self.size += header_size + padded(size)
        self.count += 1


class Piece(ABC):
    """Consecutive samples of a shard, in archives that have the same keys.

    Args:
        folder: Where the archives are made; it does not exist yet.
        first: The key of the first sample, as it is presumed to be.

    Attributes:
        count: How many samples it has.
        folder: Where the archives are.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.count = 0
        self.folder = folder
        self._first = first
        with _writing():
            folder.mkdir(mode=0o700)

    @property
    @abstractmethod
    def spools(self) -> list[Spool]:
        """The archives."""

    @property
    def size(self) -> int:
        """The bytes of all archives."""
        return sum(spool.size for spool in self.spools)

    @abstractmethod
    def add(self, file: File, content: Iterable[bytes]) -> None:
        """Add a file of the current sample."""

    @abstractmethod
    def end_sample(self, key: str) -> None:
        """End the current sample, which has this key."""

    def number(self, first: int) -> None:
        """Give the samples the keys from `first` on."""
        for spool in self.spools:
            spool.number(first)


class Columns(Piece):
    """Samples with an archive for each field. What a sample lacks is an empty datapoint, so that keys are the same."""

    def __init__(self, folder: Path, first: int) -> None:
        super().__init__(folder, first)
        self._spools: dict[str, Spool] = {}

    @property
    def spools(self) -> list[Spool]:
        return list(self._spools.values())

    def add(self, file: File, content: Iterable[bytes]) -> None:
        spool = self._spools.get(file.field)
        if spool is None:
            spool = Spool(file.field, self.folder, str(len(self._spools)), self._first)
            self._spools[file.field] = spool
            self._fill(spool)
        spool.add(file.name, file.size, content)

    def end_sample(self, key: str) -> None:  # noqa: ARG002 - the files have their own names
        self.count += 1
        for spool in self._spools.values():
            self._fill(spool)

    def _fill(self, spool: Spool) -> None:
        while spool.count < self.count:
            spool.add(None, 0, ())


class Nested(Piece):
    """Samples as one datapoint each: an archive of the sample's files."""

    def __init__(self, folder: Path, first: int) -> None:
        super().__init__(folder, first)
        self._spool = Spool("", folder, "samples", first)
        self._size = 0  # of the current sample, so far

    @property
    def spools(self) -> list[Spool]:
        return [self._spool]

    def add(self, file: File, content: Iterable[bytes]) -> None:
        if not self._size:
            self._spool.begin()
        self._size += self._spool.write((write.header(file.name, file.size),))
        self._size += self._spool.write(content)
        self._size += self._spool.write((write.padding(file.size),))

    def end_sample(self, key: str) -> None:
        self._size += self._spool.write((write.END,))
        self._spool.end(f"{key}.{NESTED}", self._size)
        self._size = 0
        self.count += 1


@contextmanager
def _writing() -> Iterator[None]:
    """Raise FileError in place of an OSError of the disk. Errors of what is read meanwhile pass."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(
            f"the shard cannot be kept on disk: {error.strerror or error}; make room in the folder for the state of "
            "programs, or set XDG_STATE_HOME"
        ) from None
