"""The footers of tables' files: fetched from their ends, kept on disk as indices are, and the last ones in memory.

A small file is fetched whole: its rows then need no request of their own.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from datas3t.client._tables import seal
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.recent import Recent
from datas3t.client._tables.schemas import KEY
from datas3t.client._tables.seal import Damaged
from datas3t.client.errors import Datas3tError, TableError
from datas3t.local.disk_cache import DiskCache

TAIL = 64 << 10  # bytes that are fetched of each file at first: about what a request costs
_BATCH = 256  # files whose ends are fetched together
_MAX_MEMORY = 32 << 20  # bytes of footers in memory
_PARSED = 4  # bytes that a parsed footer takes for each of its bytes, about


class TableFile(Protocol):
    """A file of a table, as the server lists it."""

    @property
    def id(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def counter(self) -> int: ...
    @property
    def etag(self) -> str: ...
    @property
    def location(self) -> str: ...


class Piece(NamedTuple):
    """Bytes `start` up to `stop` of a file."""

    file: TableFile
    start: int
    stop: int


Fetch: TypeAlias = Callable[[Sequence[Piece]], Sequence[bytes]]


class Opened(NamedTuple):
    """A file whose footer is known.

    Attributes:
        file: The file.
        footer: Its footer.
        schema: Its columns.
        content: All of its bytes, of a small file.
    """

    file: TableFile
    footer: seal.Footer
    schema: pa.Schema
    content: bytes | None


class Footers:
    """The footers of files, through a cache in a folder.

    Args:
        folder: The folder, which other processes share.
        max_size: How many bytes the folder may hold.
    """

    def __init__(self, folder: Path, max_size: int) -> None:
        self._folder = folder
        self._max_size = max_size
        self._disk: DiskCache | None = None
        self._memory = Recent[tuple[int, str], Opened](_MAX_MEMORY, _size)

    def opened(self, files: Sequence[TableFile], fetch: Fetch) -> Iterator[Opened]:
        """Yield the files with their footers, in their order, of which few are fetched at a time.

        Raises:
            TableError: A file is damaged, or no file of a table.
        """
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            found = {file.id: self._memory.get((file.id, file.etag)) for file in batch}
            missing = [file for file in batch if found[file.id] is None]
            for opened in self._loaded(missing, fetch) if missing else ():
                found[opened.file.id] = opened
                self._memory.put((opened.file.id, opened.file.etag), opened)
            yield from filter(None, (found[file.id] for file in batch))

    def _loaded(self, files: Sequence[TableFile], fetch: Fetch) -> Iterator[Opened]:
        sizes = [min(TAIL, file.size) for file in files]
        tails = self._tails(files, sizes, fetch)
        larger: list[tuple[TableFile, int]] = []
        for file, tail in zip(files, tails, strict=True):
            footer = self._parsed(file, tail)
            if isinstance(footer, Opened):
                yield footer
            else:
                larger.append((file, footer))
        while larger:  # twice at most: for the footer, then for the seal before it
            batch = larger
            larger = []
            tails = self._tails([file for file, _ in batch], [size for _, size in batch], fetch)
            for (file, _), tail in zip(batch, tails, strict=True):
                footer = self._parsed(file, tail)
                if isinstance(footer, Opened):
                    yield footer
                else:
                    larger.append((file, footer))

    def _parsed(self, file: TableFile, tail: bytes) -> Opened | int:
        with named(file):
            try:
                footer = seal.opened(tail, file.size)
                if isinstance(footer, int):
                    return footer
                schema = footer.metadata.schema.to_arrow_schema().remove_metadata()
                if KEY not in schema.names:
                    raise Damaged("it has no column 'key'")
            except Damaged:
                self._forget(file, len(tail))
                raise
            return Opened(file, footer, schema, tail if len(tail) == file.size else None)

    def _tails(self, files: Sequence[TableFile], sizes: Sequence[int], fetch: Fetch) -> list[bytes]:
        """Return the last bytes of files, from disk where they are."""
        tails = [self._on_disk(file, size) for file, size in zip(files, sizes, strict=True)]
        missing = [number for number, tail in enumerate(tails) if tail is None]
        pieces = [Piece(files[number], files[number].size - sizes[number], files[number].size) for number in missing]
        for number, tail in zip(missing, fetch(pieces) if pieces else (), strict=True):
            tails[number] = tail
            with _disk_errors_ignored():
                self._cache().open(_name(files[number], len(tail)), len(tail), partial(iter, [tail])).close()
        return [tail for tail in tails if tail is not None]

    def _on_disk(self, file: TableFile, size: int) -> bytes | None:
        with _disk_errors_ignored():
            cached = self._cache().find(_name(file, size), size)
            if cached is not None:
                with cached:
                    return cached.read(0, size)
        return None

    def _forget(self, file: TableFile, size: int) -> None:
        with _disk_errors_ignored():
            self._cache().remove(_name(file, size))

    def _cache(self) -> DiskCache:
        if self._disk is None:
            self._disk = DiskCache(self._folder, self._max_size)
        return self._disk


@contextmanager
def named(file: TableFile) -> Iterator[None]:
    """Raise a TableError that names the file in place of Damaged."""
    try:
        yield
    except Damaged as error:
        raise TableError(
            f"the table's file {file.location} is damaged: {error}; restore it, or drop the table and append its rows",
            metadata={"object_key": file.location},
        ) from None


def _size(opened: Opened) -> int:
    return _PARSED * opened.footer.size + len(opened.content or b"")


def _name(file: TableFile, size: int) -> str:
    """Return the name in the cache of the last `size` bytes of a file."""
    return hashlib.sha256(f"{file.location}\n{file.etag}\ntail {size}\n".encode()).hexdigest()


@contextmanager
def _disk_errors_ignored() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, Datas3tError):  # such as TransferFailed, which is a ConnectionError
            raise
