"""Reads columns of row groups: fetches their bytes together, verifies them, and has pyarrow decode them."""

import inspect
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from datas3t.archive import reads
from datas3t.archive.checksums import crc
from datas3t.client._tables import seal
from datas3t.client._tables.arrow import pa, pq
from datas3t.client._tables.footers import Fetch, Opened, Piece, named
from datas3t.client._tables.schemas import KEY
from datas3t.client._tables.seal import Damaged

_MAX_GAP = 16 << 10  # bytes between two columns that are fetched together
_MAX_REQUEST = 8 << 20  # bytes of one request
_OPTIONS = (
    {"page_checksum_verification": True}
    if "page_checksum_verification" in inspect.signature(pq.ParquetFile.__init__).parameters
    else {}
)


class Wanted(NamedTuple):
    """Columns of one row group."""

    opened: Opened
    group: int
    columns: frozenset[str]


def leaves(opened: Opened, columns: Iterable[str]) -> list[int]:
    """Return the numbers of the columns as they are stored: a nested column is stored as several."""
    wanted = set(columns)
    schema = opened.footer.metadata.schema
    paths = [schema.column(number).path for number in range(len(schema))]
    return [n for n, path in enumerate(paths) if path in wanted or any(path.startswith(f"{name}.") for name in wanted)]


def size_of(opened: Opened, group: int, columns: Iterable[str]) -> int:
    """Return how many bytes columns of a row group take in memory, about."""
    row_group = opened.footer.metadata.row_group(group)
    return sum(row_group.column(number).total_uncompressed_size for number in leaves(opened, columns))


def read(wanted: Sequence[Wanted], fetch: Fetch) -> list[pa.Table]:
    """Return the columns of each row group.

    Raises:
        TableError: Bytes are not what was written, even when they are fetched again.
    """
    numbers = [leaves(each.opened, each.columns) for each in wanted]
    places = [_places(each, of_group) for each, of_group in zip(wanted, numbers, strict=True)]
    chunks = _fetched(wanted, places, fetch)
    return [_decoded(*each) for each in zip(wanted, places, chunks, strict=True)]


def _places(wanted: Wanted, numbers: Sequence[int]) -> dict[int, range]:
    row_group = wanted.opened.footer.metadata.row_group(wanted.group)
    return {number: seal.column_bytes(row_group.column(number)) for number in numbers}


def _fetched(wanted: Sequence[Wanted], places: Sequence[dict[int, range]], fetch: Fetch) -> list[dict[int, bytes]]:
    """Return the verified bytes of each column of each row group."""
    pieces: list[Piece] = []
    for each, of_group in zip(wanted, places, strict=True):
        if each.opened.content is None:
            pieces += _pieces(each, of_group.values())
    bodies = iter(zip(pieces, fetch(pieces) if pieces else (), strict=True))
    fetched = []
    for each, of_group in zip(wanted, places, strict=True):
        if each.opened.content is not None:
            parts = [(0, each.opened.content)]
        else:
            parts = [(piece.start, body) for piece, body in _take(bodies, len(_pieces(each, of_group.values())))]
        fetched.append({number: _cut(parts, place) for number, place in of_group.items()})
    return [_verified(*each, fetch) for each in zip(wanted, places, fetched, strict=True)]


def _take(bodies: Iterator[tuple[Piece, bytes]], count: int) -> list[tuple[Piece, bytes]]:
    return [next(bodies) for _ in range(count)]


def _pieces(wanted: Wanted, places: Iterable[range]) -> list[Piece]:
    ordered = sorted(places, key=lambda place: place.start)
    parts = [
        range(at, min(at + _MAX_REQUEST, place.stop))
        for place in ordered
        for at in range(place.start, place.stop, _MAX_REQUEST)
    ]
    return [Piece(wanted.opened.file, place.start, place.stop) for place in reads.merge(parts, _MAX_GAP, _MAX_REQUEST)]


def _cut(parts: Sequence[tuple[int, bytes]], place: range) -> bytes:
    """Return bytes out of consecutive parts of a file."""
    at = bisect_right(parts, place.start, key=lambda part: part[0]) - 1
    start, body = parts[at]
    found = body[place.start - start : place.stop - start]
    while len(found) < len(place):
        at += 1
        start, body = parts[at]
        found += body[: place.stop - start]
    return found


def _verified(wanted: Wanted, places: dict[int, range], chunks: dict[int, bytes], fetch: Fetch) -> dict[int, bytes]:
    """Return the bytes of columns; those with another checksum are fetched again, once."""
    footer = wanted.opened.footer
    if footer.checksums is None:
        return chunks
    first = wanted.group * footer.metadata.num_columns
    for number, chunk in chunks.items():
        if crc(chunk) == footer.checksums[first + number]:
            continue
        place = places[number]
        again = b"".join(fetch(_pieces(wanted, [place])))
        with named(wanted.opened.file):
            if crc(again) != footer.checksums[first + number]:
                path = footer.metadata.schema.column(number).path
                raise Damaged(f"column {path!r} at bytes {place.start} to {place.stop} has another checksum")
        chunks[number] = again
    return chunks


def _decoded(wanted: Wanted, places: dict[int, range], chunks: dict[int, bytes]) -> pa.Table:
    """Return the table that the columns of a row group are, with their keys checked."""
    opened = wanted.opened
    parts = sorted((places[number].start, chunk) for number, chunk in chunks.items())
    names = [name for name in opened.schema.names if name in wanted.columns]
    with named(opened.file):
        try:
            file = pq.ParquetFile(
                pa.PythonFile(_Sparse(opened.file.size, parts), "r"),
                metadata=opened.footer.metadata,
                pre_buffer=False,
                **_OPTIONS,
            )
            table = file.read_row_group(wanted.group, columns=names, use_threads=False).select(names)
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            raise Damaged(f"row group {wanted.group} cannot be read: {' '.join(str(error).split())}") from None
        if len(table) != opened.footer.metadata.row_group(wanted.group).num_rows:
            raise Damaged(f"row group {wanted.group} has {len(table)} rows, which are not as many as its footer says")
        if KEY in names:
            _check_keys(table, opened)
    return table.replace_schema_metadata(None)


def _check_keys(table: pa.Table, opened: Opened) -> None:
    column = table.column(KEY)
    if column.null_count or column.type != pa.int64():
        raise Damaged("its keys are not all int64")
    keys = column.to_numpy()
    if len(keys) and (keys[0] < opened.file.first or keys[-1] > opened.file.last or (np.diff(keys) <= 0).any()):
        raise Damaged(f"its keys are not ascending from {opened.file.first} to {opened.file.last}")


class _Sparse:
    """A file of which only some bytes are known, as pyarrow reads files. Reading others is an error."""

    closed = False

    def __init__(self, size: int, parts: Sequence[tuple[int, bytes]]) -> None:
        self._size = size
        self._parts = parts
        self._starts = [start for start, _ in parts]
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return self._size

    def read(self, count: int = -1) -> memoryview:
        number = bisect_right(self._starts, self._at) - 1
        start, chunk = self._parts[number] if number >= 0 else (0, b"")
        found = memoryview(chunk)[self._at - start : self._at - start + count]
        if count < 0 or len(found) < count:
            raise ValueError(f"its footer names bytes {self._at} to {self._at + count}, which are no column's")
        self._at += count
        return found

    def close(self) -> None:
        pass
