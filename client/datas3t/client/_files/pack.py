"""Packs files and folders into an archive of numbered datapoints."""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TextIO

from datas3t.archive import names, parts, write
from datas3t.client._calls.arguments import check_path
from datas3t.client._transfers import output_file
from datas3t.client.errors import FileError, InvalidArgument
from datas3t.client.progress import Progress, Reporter

_BUFFER_SIZE = 1 << 20  # bytes that are read and written at a time
_COMPRESSORS = frozenset((b"br", b"bz2", b"gz", b"lz4", b"xz", b"zst"))  # their extensions keep the one before them


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was packed.

    Attributes:
        archive: Its absolute path.
        names: The path of the list of names: a JSON object {"key", "path"} on a line for each datapoint.
        first: The first key.
        last: The last key.
        size: The size of the archive, in bytes.
    """

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
    """Pack files and folders into a TAR archive of numbered datapoints.

    The files are numbered in the order of their paths, whatever order they were named in, so the same files give the
    same bytes. A link to a file is packed as that file. A list that says which file became which datapoint is written
    next to the archive, as `output`.names.jsonl. Both files appear complete or not at all.

    A datapoint keeps its file's extension: what follows the last dot, together with the extension before it if the last
    is a compressor's, such as "json.zst". Files without an extension, or with one that is not valid Unicode, get "bin".

    No server is needed. `Datas3t.upload_tar` uploads the archive.

    Example:
        >>> packed = pack(["photos"], "photos.tar")
        >>> client.datas3t("photos").upload_tar(packed.archive)

    Args:
        sources: The files and folders. Folders are packed with everything in them.
        output: The archive to write.
        first: The key of the first file.
        progress: Is called with the phase "pack", in bytes.

    Returns:
        The paths of both files, the keys and the size.

    Raises:
        FileError: A file cannot be read, changed while it was packed, or is not a regular file or a folder; or a folder
            contains a link to a folder; or the output cannot be written.
        InvalidArgument: There is no file to pack, a path is empty, or the files do not fit into one archive or into the
            range of keys.
    """
    # Find the files. The output may be within a folder that is packed.
    archive = output_file.resolve(output)
    listing = output_file.resolve(archive.with_name(archive.name + ".names.jsonl"))
    own = {str(path) for each in (archive, listing) for path in (each, output_file.partial(each))}
    files = _find([check_path(source, "a source") for source in sources], own)

    # Check the limits before anything is written.
    if not files:
        raise InvalidArgument("there is no file to pack")
    if first < 0 or first + len(files) - 1 > names.MAX_KEY:
        raise InvalidArgument(f"{len(files)} datapoints from {first} on do not fit into keys of 0 to 2^63-1")
    if (size := sum(file.size for file in files)) > parts.MAX_OBJECT:
        raise InvalidArgument(f"files of {size} bytes do not fit into one archive of at most {parts.MAX_OBJECT} bytes")

    # Write both files, the archive last: once it exists, so does its list.
    reporter = Reporter(progress, "pack", size)
    with output_file.partial_removed(archive, listing):
        with output_file.os_errors_as_file_error(archive):
            size = _write(files, first, archive, listing, reporter)
        output_file.publish(listing)
        output_file.publish(archive)
    reporter.done()
    return Packed(archive, listing, first, first + len(files) - 1, size)


def extension(name: str | bytes) -> str:
    """Return the extension, without its dot, that the datapoint of a file with this name gets."""
    stem, _, last = os.fsencode(name).rpartition(b".")
    if not stem or not last:
        return "bin"
    before, _, inner = stem.rpartition(b".")
    if last in _COMPRESSORS and before and inner:
        last = inner + b"." + last
    try:
        return last.decode()
    except UnicodeError:
        return "bin"


def _find(sources: Iterable[str], left_out: set[str]) -> list[_File]:
    """Return all files of the sources once each, sorted by path, without those in `left_out`."""
    files: dict[str, _File] = {}
    for source in sources:
        for path in _walk(source):
            if os.path.realpath(path) not in left_out:
                files.setdefault(os.path.abspath(path), _regular_file(path))
    return sorted(files.values(), key=lambda file: os.fsencode(file.path).split(b"/"))


def _walk(source: str) -> Iterator[str]:
    """Yield the path of a file, or of every file in a folder."""
    if not os.path.isdir(source):
        yield source
        return
    for folder, folders, files in os.walk(source, onerror=_raise_file_error):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise FileError(f"{os.path.join(folder, name)} is a link to a folder; name that folder itself")
        yield from (os.path.join(folder, name) for name in files)


def _raise_file_error(error: OSError) -> None:
    raise FileError(f"{error.filename} cannot be read: {error.strerror}") from None


def _regular_file(path: str) -> _File:
    try:
        status = os.stat(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path} is neither a regular file nor a folder; leave it out")
    return _File(path, status.st_size, status.st_mtime_ns)


def _write(files: list[_File], first: int, archive: Path, listing: Path, reporter: Reporter) -> int:
    """Write both outputs under their temporary names, and return the size of the archive."""
    buffer = memoryview(bytearray(_BUFFER_SIZE))
    with (
        output_file.partial(archive).open("wb", buffering=_BUFFER_SIZE) as out,
        output_file.partial(listing).open("w", encoding="ascii", newline="\n") as lines,
    ):
        done = 0
        for key, file in enumerate(files, first):
            out.write(write.header(names.entry_name(key, extension(os.path.basename(file.path))), file.size))
            done = _copy(file, out, buffer, done, reporter)
            out.write(write.padding(file.size))
            _write_name(lines, key, file.path)
        out.write(write.END)
        return out.tell()


def _write_name(lines: TextIO, key: int, path: str) -> None:
    lines.write(json.dumps({"key": key, "path": _in_utf8(path)}) + "\n")


def _copy(file: _File, out: BinaryIO, buffer: memoryview, done: int, reporter: Reporter) -> int:
    """Append the file's content. Return how many bytes of all files are `done` then."""
    left = file.size
    with _open(file.path) as content:
        while left and (count := content.readinto(buffer[: min(left, _BUFFER_SIZE)])):
            out.write(buffer[:count])
            left -= count
            done += count
            reporter.update(done)
        status = os.fstat(content.fileno())
    if left or (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileError(f"{file.path} changed while it was packed; pack again when nothing writes to it")
    return done


def _open(path: str) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None


def _in_utf8(path: str) -> str:
    """Return the text of a path whose bytes are read as UTF-8, whatever the locale; other bytes stay as they are."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
