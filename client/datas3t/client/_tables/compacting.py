"""Compaction: which files of a table to rewrite as one, and the rows of that one.

A file may replace others only if no other file that overlaps it is newer than the oldest of those: its rows count as
the newest. So neighbours that no newer file overlaps are merged, and files that overlap with all that are newer.
"""

from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile

from datas3t.archive.names import MAX_KEY
from datas3t.client._tables import reading
from datas3t.client._tables.appending import Target
from datas3t.client._tables.encoding import Encoder
from datas3t.client._tables.footers import Fetch, Footers, TableFile
from datas3t.transport import FileRange

TARGET_SIZE = 128 << 20  # bytes; smaller files are merged with their neighbours
MAX_SIZE = 1 << 30  # bytes that are merged into one file
_MAX_FILES = 1000  # that are merged into one
_SHARE = 4  # files become one when all but the largest have a quarter of its size together


def plan(files: Sequence[TableFile], target_size: int = TARGET_SIZE, max_size: int = MAX_SIZE) -> list[list[TableFile]]:
    """Return groups of files that are each to become one; no file is in two groups.

    Args:
        files: All files of the table.
        target_size: Neighbours are merged up to this size.
        max_size: No group is larger than this.
    """
    groups: list[list[TableFile]] = []
    run: list[list[TableFile]] = []
    for part, is_whole in [_newest(part, max_size) for part in _parts(files)]:
        # Only parts that are merged whole may be merged with neighbours: the range between must have no newer file.
        if not is_whole or _size(part) >= target_size:
            groups += [*_worthwhile(run), part]
            run = []
            continue
        if sum(map(_size, run)) + _size(part) > target_size or sum(map(len, run)) + len(part) > _MAX_FILES:
            groups += _worthwhile(run)
            run = []
        run.append(part)
    return [group for group in [*groups, *_worthwhile(run)] if len(group) > 1]


def _worthwhile(run: Sequence[list[TableFile]]) -> Iterator[list[TableFile]]:
    """Yield the groups to make of neighbouring parts: a large one is not rewritten for the sake of a little more."""
    sizes = [_size(part) for part in run]
    if not sizes or (sum(sizes) - max(sizes)) * _SHARE >= max(sizes):
        yield [file for part in run for file in part]
        return
    largest = sizes.index(max(sizes))
    yield from _worthwhile(run[:largest])
    yield run[largest]
    yield from _worthwhile(run[largest + 1 :])


def _size(part: Sequence[TableFile]) -> int:
    return sum(file.size for file in part)


def _parts(files: Sequence[TableFile]) -> Iterator[list[TableFile]]:
    """Yield the files in parts of which no two overlap, by key."""
    part: list[TableFile] = []
    last = -1
    for file in sorted(files, key=lambda file: (file.first, file.last)):
        if part and file.first > last:
            yield part
            part = []
        part.append(file)
        last = max(last, file.last)
    if part:
        yield part


def _newest(part: Sequence[TableFile], max_size: int) -> tuple[list[TableFile], bool]:
    """Return the newest files of a part, as many as are worth merging, and whether these are all."""
    ordered = sorted(part, key=lambda file: -file.counter)
    size = largest = count = 0
    for number, file in enumerate(ordered, 1):
        size, largest = size + file.size, max(largest, file.size)
        if size > max_size or number > _MAX_FILES:
            break
        if number == 1 or (size - largest) * _SHARE >= largest:
            count = number
    return ordered[: max(count, 1)], count == len(ordered)


def compact(files: Sequence[TableFile], footers: Footers, fetch: Fetch, target: Target) -> tuple[int, int]:
    """Rewrite files as one, which replaces them. Return its id, and its size.

    All newest rows are kept, also those of keys that are not present. Memory: a window of rows, on disk the file.

    Raises:
        TableError: A file is damaged, or a column has different types.
    """
    schema = reading.schema_of(files, footers, fetch)
    asked = reading.question(schema, columns=None, where=None, first=0, last=MAX_KEY, present=None)
    with TemporaryFile() as out:
        encoder = Encoder(out, schema)
        for table in reading.answer(files, footers, fetch, asked):
            encoder.add(table)
        size = encoder.finish()
        out.flush()
        body = FileRange(out.fileno(), range(size))
        # The range may be wider than the rows, as that of the files may be.
        first, last = min(file.first for file in files), max(file.last for file in files)
        file_id = target.send(first, last, body, [file.id for file in files])
    target.complete(file_id)
    return file_id, size
