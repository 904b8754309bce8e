"""The files in a shard, and to which sample and field each belongs, as WebDataset divides their names."""

import io
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from datas3t.archive import ArchiveError, names
from datas3t.archive.index import BLOCK
from datas3t.archive.members import Member, read_member
from datas3t.client._files._shards.streams import BadShard, failures_told

PIECE = 1 << 20  # bytes that are read at a time

_NAME = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)  # as webdataset's `base_plus_ext`
_META = re.compile(r"__[^/]*__($|/)")
_MAX_NAME = 4_096  # bytes; a path has no more
_MAX_FIELD = 100  # bytes


class File(NamedTuple):
    """A file of a sample.

    Attributes:
        name: Its name, as `os.fsdecode` returns it, without "./" at the start.
        key: The name up to its extensions, which all files of a sample have in common.
        field: The extensions, in lower case.
        size: The size of its content in bytes.
        position: Where its content starts.
    """

    name: str
    key: str
    field: str
    size: int
    position: int


class LeftOut(NamedTuple):
    """An entry that is part of no sample, as a message says it."""

    why: str


class Reader:
    """Reads the entries of a shard from its start to its end.

    Args:
        stream: The bytes of the archive.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._position = 0

    def __iter__(self) -> Iterator[File | LeftOut]:
        """Yield files and what is left out, in the archive's order. Contents that are not read are skipped.

        Raises:
            BadShard: The archive is damaged, or ends too early.
        """
        position = 0
        try:
            while (member := read_member(self._read, position)) is not None:
                yield _file(member)
                position = member.entry.stop
            self._check_end()
        except ArchiveError as error:
            raise BadShard(str(error)) from None

    def content(self, file: File) -> Iterator[bytes]:
        """Yield the content of a file, piece by piece, before the next file is asked for."""
        stop = file.position + file.size
        for start in range(file.position, stop, PIECE):
            yield self._read(start, min(start + PIECE, stop))

    def _read(self, start: int, stop: int) -> bytes:
        with failures_told():
            if start > self._position:
                self._skip(start - self._position)
            piece = self._stream.read(stop - start)
        if len(piece) < stop - start:
            raise BadShard(
                f"it ends at byte {start + len(piece)} without an end marker: it is empty, or its end is missing"
            )
        self._position = stop
        return piece

    def _skip(self, count: int) -> None:
        """Go on behind bytes that nobody wants. Reading the last of them shows whether they are there."""
        is_file = isinstance(self._stream, io.BufferedReader) and isinstance(self._stream.raw, io.FileIO)
        if is_file and count > 2 * PIECE and self._stream.seekable():
            self._stream.seek(count - 1, os.SEEK_CUR)
            count = 1
        while count:
            piece = self._stream.read(min(count, PIECE))
            if not piece:
                raise BadShard("its end is missing")
            count -= len(piece)

    def _check_end(self) -> None:
        """Check that only zeros follow: whatever else does, such as another archive, would be lost."""
        with failures_told():
            while piece := self._stream.read(PIECE):
                if piece.count(0) != len(piece):
                    raise BadShard("something follows its end marker; give archives that were joined one by one")


def _file(member: Member) -> File | LeftOut:
    if member.what:
        return LeftOut(f"{names.quoted(member.name)} is {member.what}")
    name = os.fsdecode(member.name)
    while name.startswith("./"):
        name = name[2:]
    if _META.match(name):
        return LeftOut(f"{names.quoted(member.name)} is about the shard")
    if len(member.name) > _MAX_NAME or "\0" in name:
        return LeftOut(f"{names.quoted(member.name)} is a name that no file can have")
    found = _NAME.fullmatch(name)
    if found is None or not found[2] or not found[1].strip("/"):
        return LeftOut(f"{names.quoted(member.name)} has no extension, so that it is part of no sample")
    field = found[2].lower()
    if len(os.fsencode(field)) > _MAX_FIELD:
        return LeftOut(f"{names.quoted(member.name)} has an extension of more than {_MAX_FIELD} bytes")
    content = member.entry.position + BLOCK * member.entry.header_blocks
    return File(name, found[1], field, member.entry.size, content)
