"""What the user names, as sources: files and folders, and lists of files."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from datas3t.client._calls.arguments import check_path
from datas3t.client._files.walking import Source
from datas3t.client.errors import FileError, InvalidArgument

STANDARD_INPUT = "-"
_PIECE = 1 << 20  # bytes that are read at a time


def named(sources: Iterable[str | os.PathLike[str]]) -> list[Source]:
    """Return the sources that these paths name.

    Names are relative to a folder that is named, and to the folder of a file that is named.

    Raises:
        InvalidArgument: A path is empty.
        FileError: A path names nothing.
    """
    return [_named(os.fsencode(check_path(source, "a source"))) for source in sources]


def listed(lines: Iterable[bytes], folder: str | os.PathLike[str]) -> list[Source]:
    """Return the sources that the lines of a list name, relative to a folder.

    Args:
        lines: Paths relative to the folder, or absolute ones below it. Names are relative to the folder.
        folder: The folder.

    Raises:
        InvalidArgument: A line names something that is not in the folder.
    """
    base = os.fsencode(check_path(folder, "a source"))
    above = os.path.abspath(base)
    base = b"" if base == b"." else base.rstrip(b"/") + b"/"
    found = []
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise InvalidArgument(
                f"line {number} has a NUL character; separate all names by NUL, as `find -print0` does, or by lines"
            )
        name = os.path.normpath(os.path.relpath(line, above) if os.path.isabs(line) else line)
        if name == b".." or name.startswith(b"../"):
            raise InvalidArgument(
                f"line {number} names {os.fsdecode(line)!r}, which is not in the folder {os.fsdecode(above)!r}; "
                f"name the folder that the paths are relative to as the source"
            )
        found.append(Source(base, b"" if name == b"." else name))
    return found


def lines_of(list_of_files: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the lines of a list of files, without empty ones.

    If the list has a NUL character, that is what separates the names, as `find -print0` writes them.

    Args:
        list_of_files: The file with the list; "-" is standard input.

    Raises:
        FileError: It cannot be read.
    """
    if list_of_files == STANDARD_INPUT:
        yield from _split(_standard_input())
        return
    try:
        with Path(check_path(list_of_files, "the list of files")).open("rb") as opened:
            yield from _split(opened)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{os.fspath(list_of_files)} cannot be read: {error.strerror}") from None


def _named(path: bytes) -> Source:
    if not os.path.lexists(path):
        raise FileError(f"{os.fsdecode(path)} does not exist")
    if os.path.isdir(path):
        return Source(path if path.endswith(b"/") else path + b"/", b"")
    folder, name = os.path.split(path)
    return Source(folder if folder.endswith(b"/") or not folder else folder + b"/", name)


def _split(opened: IO[bytes]) -> Iterator[bytes]:
    piece = opened.read(_PIECE)
    separator = b"\0" if b"\0" in piece else b"\n"
    rest = b""
    while piece:
        *whole, rest = (rest + piece).split(separator)
        yield from filter(None, whole)
        piece = opened.read(_PIECE)
    if rest:
        yield rest


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        raise FileError("standard input is closed; name a file with the list")
    return sys.stdin.buffer
