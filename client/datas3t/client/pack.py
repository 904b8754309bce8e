"""Packing files and folders into an archive of numbered datapoints, and a list of which path became which key.

Regular files only, in the order of their paths, whatever order they were named in. A link to a file is packed as that
file; a link to a folder inside a folder, a device or a broken link is an error. The same files give the same bytes.

A datapoint keeps its file's extension: what follows the last dot, and what is before that where it is a compressor's
(`.json.zst`). Files without one, or with one that is no Unicode text, get `bin`.
"""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TextIO

from datas3t.archive import names, parts, write
from datas3t.client._transfers import output as _output
from datas3t.client.errors import FileError, InvalidArgument
from datas3t.client.progress import Progress, Reporter

_BUFFER = 1 << 20
_COMPRESSORS = frozenset(("br", "bz2", "gz", "lz4", "xz", "zst"))


@dataclass(frozen=True, slots=True)
class Packed:
    """Keys `first` to `last` are in `archive`, of `size` bytes; `names` has a line {"key", "path"} for each."""

    archive: Path
    names: Path
    first: int
    last: int
    size: int


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    mtime_ns: int


def pack(
    sources: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    first: int = 1,
    progress: Progress | None = None,
) -> Packed:
    """Packs `sources`, files and folders, into the archive `output`, numbered from `first` on, and writes
    `output`.names.jsonl beside it. Both appear whole or not at all. `progress` is called with ("pack", bytes, total).

    Raises FileError naming the file that cannot be read or packed, or that changed meanwhile; InvalidArgument where
    there is nothing to pack or the keys would pass 2^63-1.
    """
    archive = _output.target(output)
    listing = _output.target(archive.with_name(archive.name + ".names.jsonl"))
    files = _found(sources, {str(path) for each in (archive, listing) for path in (each, _output.part(each))})
    if not files:
        raise InvalidArgument("there is no file to pack")
    if first < 0 or first + len(files) - 1 > names.MAX_KEY:
        raise InvalidArgument(f"{len(files)} datapoints from {first} on do not fit into keys of 0 to 2^63-1")
    if (size := sum(file.size for file in files)) > parts.MAX_OBJECT:
        raise InvalidArgument(f"files of {size} bytes do not fit into one archive of at most {parts.MAX_OBJECT} bytes")
    reporter = Reporter(progress, "pack", size)
    with _output.gone_unless_renamed(_output.part(archive), _output.part(listing)):
        with _output.as_file_error(archive):
            size = _write(files, first, archive, listing, reporter)
        _output.publish(_output.part(listing), listing)
        _output.publish(_output.part(archive), archive)
    reporter.done()
    return Packed(archive, listing, first, first + len(files) - 1, size)


def extension(name: str) -> str:
    """The extension that a datapoint made of the file `name` has."""
    stem, _, last = name.rpartition(".")
    if not stem or not last:
        return "bin"
    before, _, inner = stem.rpartition(".")
    if last in _COMPRESSORS and before and inner:
        last = f"{inner}.{last}"
    try:
        last.encode()
    except UnicodeEncodeError:
        return "bin"
    return last


def _found(sources: Iterable[str | os.PathLike[str]], left_out: set[str]) -> list[_File]:
    files: dict[str, _File] = {}
    for source in sources:
        for path in _walked(os.fspath(source)):
            real = os.path.realpath(path)
            if real not in left_out:
                files.setdefault(os.path.abspath(path), _looked_at(path))
    return sorted(files.values(), key=lambda file: os.fsencode(file.path).split(b"/"))


def _walked(source: str) -> Iterator[str]:
    if not os.path.isdir(source):
        yield source
        return
    for folder, folders, found in os.walk(source, onerror=_refuse):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise FileError(f"{os.path.join(folder, name)} is a link to a folder; name that folder itself")
        yield from (os.path.join(folder, name) for name in found)


def _refuse(error: OSError) -> None:
    raise FileError(f"{error.filename} cannot be read: {error.strerror}") from None


def _looked_at(path: str) -> _File:
    try:
        found = os.stat(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{path} is neither a regular file nor a folder; leave it out")
    return _File(path, found.st_size, found.st_mtime_ns)


def _write(files: list[_File], first: int, archive: Path, listing: Path, reporter: Reporter) -> int:
    buffer = memoryview(bytearray(_BUFFER))
    with (
        _output.part(archive).open("wb", buffering=_BUFFER) as out,
        _output.part(listing).open("w", encoding="ascii", newline="\n") as lines,
    ):
        done = 0
        for key, file in enumerate(files, first):
            out.write(write.header(names.entry_name(key, extension(os.path.basename(file.path))), file.size))
            done = _copy(file, out, buffer, done, reporter)
            out.write(write.padding(file.size))
            _note(lines, key, file.path)
        out.write(write.END)
        return out.tell()


def _note(lines: TextIO, key: int, path: str) -> None:
    lines.write(json.dumps({"key": key, "path": path}) + "\n")


def _copy(file: _File, out: BinaryIO, buffer: memoryview, done: int, reporter: Reporter) -> int:
    """Appends the file's content; all bytes done so far."""
    left = file.size
    with _opened(file.path) as content:
        while left and (count := content.readinto(buffer[: min(left, _BUFFER)])):
            out.write(buffer[:count])
            left -= count
            done += count
            reporter.at(done)
        now = os.fstat(content.fileno())
    if left or (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileError(f"{file.path} changed while it was packed; pack again when nobody writes to it")
    return done


def _opened(path: str) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
