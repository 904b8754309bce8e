"""Writes files by their paths below one folder, and nowhere else: no link is followed, whoever made the paths.

Each folder on the way is opened from the one above it (openat with O_NOFOLLOW), so that what a name means cannot be
changed in between. A file appears under its name when it is complete.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from datas3t.archive.checksums import crc
from datas3t.client.errors import Datas3tError, FileError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20  # bytes that are read at a time
_MAX_OPEN = 16  # folders on the way to a file that stay open; a path has up to 2,000
_ATTEMPTS = 8  # at a temporary file that others take away
_BUSY = "another process is writing it; pull again when that has ended"


class Refused(Exception):  # noqa: N818 - one file is refused; the others are written
    """A file is not written, for the reason in the message."""


class Place(NamedTuple):
    """Where a file belongs: an open folder, and the name in it."""

    folder: int
    name: bytes


class Tree:
    """A folder in which files are written by their paths. Each thread needs its own.

    Args:
        root: The folder. It is created if it does not exist, and may be a link.

    Raises:
        FileError: The folder cannot be created or used.
    """

    def __init__(self, root: str) -> None:
        try:
            os.makedirs(root, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FileError(f"{root} cannot be used as the output: {error.strerror}") from None
        self._open: list[tuple[bytes, int]] = []  # the folders on the way to the last file, by name

    def close(self) -> None:
        """Close the folders."""
        self._leave(0)
        os.close(self._root)

    @contextmanager
    def place(self, path: bytes) -> Iterator[Place]:
        """Yield the place of a file during the block, and create the folders on the way.

        Raises:
            Refused: The path leads out of the folder, or through something that is no folder.
        """
        *folders, name = components(path)
        with _refused_on_errors(path):
            yield Place(self._enter(folders) if len(folders) <= _MAX_OPEN else self._enter_deep(folders), name)

    def _enter(self, folders: list[bytes]) -> int:
        """Return the descriptor of a folder; those that it shares with the last one are open already."""
        common = 0
        for (name, _), wanted in zip(self._open, folders, strict=False):
            if name != wanted:
                break
            common += 1
        self._leave(common)
        for name in folders[common:]:
            self._open.append((name, _folder(self._open[-1][1] if self._open else self._root, name)))
        return self._open[-1][1] if self._open else self._root

    def _enter_deep(self, folders: list[bytes]) -> int:
        """Return the descriptor of a folder; none of those above it stays open."""
        self._leave(0)
        for name in folders:
            opened = _folder(self._open[-1][1] if self._open else self._root, name)
            self._leave(0)
            self._open.append((b"/", opened))  # no folder has this name, so the next path begins at the root
        return self._open[-1][1]

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def components(path: bytes) -> list[bytes]:
    """Return the names of the folders on the way to a file, and its own.

    Raises:
        Refused: The path is not one of a file below a folder.
    """
    parts = path.split(b"/")
    if b"\0" in path:
        raise Refused("the path has a NUL character")
    if path.startswith(b"/"):
        raise Refused("the path is absolute")
    if b".." in parts:
        raise Refused("the path has a part '..'")
    if b"" in parts or b"." in parts:
        raise Refused("the path has an empty part, or a part '.'")
    return parts


def is_there(place: Place, size: int, crc32c: int) -> bool | None:
    """Return whether the file exists with this size and checksum; None if nothing exists under its name."""
    try:
        fd = os.open(place.name, _EXISTING, dir_fd=place.folder)
    except FileNotFoundError:
        return None
    except OSError:  # such as a link
        return False
    try:
        status = os.fstat(fd)
        return stat.S_ISREG(status.st_mode) and status.st_size == size and crc_of(fd, size) == crc32c
    finally:
        os.close(fd)


def crc_of(fd: int, size: int) -> int:
    """Return the CRC-32C of a file."""
    value = 0
    for at in range(0, size, _PIECE):
        value = crc(os.pread(fd, _PIECE, at), value)
    return value


def write(place: Place, fill: Callable[[int], None], mtime_ns: int | None) -> None:
    """Write a file, which appears when it is complete, and replaces one of that name.

    Args:
        place: Where it belongs.
        fill: Writes the content to a descriptor.
        mtime_ns: The time of modification to set, in nanoseconds; None to set none.

    Raises:
        Refused: Another process is writing it.
    """
    temporary = b".%s.datas3t-part" % hashlib.sha256(place.name).hexdigest()[:32].encode()
    fd = _created(temporary, place.folder)
    try:
        fill(fd)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=place.folder)
        raise
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all bytes of a content."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _created(name: bytes, folder: int) -> int:
    """Create a file and lock it, so that no other process takes it for one that was left behind.

    Raises:
        Refused: Another process is writing it.
    """
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(name, _NEW, 0o666, dir_fd=folder)
        except FileExistsError:
            _remove_left(name, folder)
            continue
        if _is_locked_now(fd) and _is_named(fd, name, folder):
            return fd
        os.close(fd)
    raise Refused(_BUSY)


def _remove_left(name: bytes, folder: int) -> None:
    """Remove what a process that was killed has left under a name. Raise Refused if it is not dead."""
    try:
        fd = os.open(name, _EXISTING, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError:  # such as a link, which is nobody's file
        os.unlink(name, dir_fd=folder)
        return
    try:
        if not _is_locked_now(fd):
            raise Refused(_BUSY)
        if _is_named(fd, name, folder):
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(fd)


def _is_locked_now(fd: int) -> bool:
    """Lock a file, and return whether that was possible. Where the file system has no locks, it is."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _is_named(fd: int, name: bytes, folder: int) -> bool:
    """Return whether a name still means the file that was opened by it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _folder(above: int, name: bytes) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another thread was faster
            os.mkdir(name, dir_fd=above)
        return os.open(name, _FOLDER, dir_fd=above)


@contextmanager
def _refused_on_errors(path: bytes) -> Iterator[None]:
    """Raise Refused for errors of the file system that concern one path alone."""
    try:
        yield
    except Datas3tError:  # some are OSErrors too, such as a lost connection
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Refused("a link or a file is where a folder must be") from None
        if error.errno == errno.EISDIR:
            raise Refused("a folder is where the file must be") from None
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise Refused(f"the file system does not allow the name: {error.strerror}") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Refused(error.strerror) from None
        raise FileError(f"{os.fsdecode(path)} cannot be written: {error.strerror}") from None
