"""The folder of a writer in the user's state folder: its lock, its keys and its spools.

    writers/<digest of server and datas3t>/<writer id>/lock
                                                       keys.json
                                                       <number>.tar, <number>.records, ...

A writer without an id has a folder with a made-up one. It is used again by the next such writer, unless its writer
ended with something in it.
"""

import hashlib
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datas3t.client._files._writer.spool import SUFFIX, Spool
from datas3t.client.errors import FailedPrecondition, FileError, InvalidArgument
from datas3t.local import folders, locks

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_UNNAMED = "unnamed-"
_LOCK = "lock"
_WAIT = 1.0  # seconds for another writer that only looks whether this one is alive


class WriterFolder:
    """The folder of one writer, locked until it is closed.

    Attributes:
        path: The folder.
        writer_id: The id that it was opened with, or that was made up.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Take over the descriptor of the lock; `opened` returns folders."""
        self.path = path
        self.writer_id = path.name
        self._fd = fd
        self._process = os.getpid()

    @classmethod
    def opened(cls, url: str, name: str, writer_id: str | None) -> "WriterFolder":
        """Lock the folder of a writer, creating it if needed.

        Warns of folders whose writers had no id, and ended with something in them.

        Args:
            url: The server's address.
            name: The datas3t.
            writer_id: The id of the writer; None: a folder that nobody uses.

        Raises:
            InvalidArgument: The id is not allowed.
            FailedPrecondition: A writer with this id is alive.
            FileError: The folder cannot be created.
        """
        if writer_id is not None and not _ID.fullmatch(writer_id):
            raise InvalidArgument(
                f"the writer_id {writer_id!r} is not 1 to 100 letters, digits, '_', '-' and '.', and the first no '.'"
            )
        folder = _folder_of(url, name)
        with _usable(folder):
            if writer_id is not None:
                return cls._locked(folder / writer_id, name)
            return cls._unused(folder, name)

    @classmethod
    def _locked(cls, path: Path, name: str) -> "WriterFolder":
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return cls(path, locks.lock(path / _LOCK, _WAIT))
        except BlockingIOError:
            raise FailedPrecondition(
                f"the writer {path.name!r} of {name!r} is in use; close it first, or use another writer_id"
            ) from None

    @classmethod
    def _unused(cls, folder: Path, name: str) -> "WriterFolder":
        """Return a folder of a writer without id that has ended with nothing in it, or a new one."""
        empty = []
        for path in sorted(folder.glob(f"{_UNNAMED}*")):
            if not _has_something(path):
                empty.append(path)
            elif not _is_locked(path / _LOCK):
                _warn(path, name)
        for path in empty:
            with suppress(BlockingIOError):
                return cls(path, locks.lock(path / _LOCK, 0))
        return cls._locked(folder / f"{_UNNAMED}{secrets.token_hex(4)}", name)

    def recovered(self) -> list[Spool]:
        """Return the spools that an earlier writer has left, and remove what is of no use.

        Warns of datapoints that a crash of the machine has damaged.
        """
        spools = []
        with _usable(self.path):
            stems = {path.name.partition(".")[0].partition("-")[0] for path in self.path.glob("[0-9]*")}
            for stem in sorted(stems):
                path = self.path / f"{stem}.tar"
                spool = Spool.recovered(path)
                if spool is None:
                    continue
                if spool.lost:
                    _warn_of_lost(spool)
                if spool.count:
                    spools.append(spool)
                else:
                    spool.remove()
        return spools

    def new_path(self, number: int) -> Path:
        """Return the path of the archive of a new spool."""
        return self.path / f"{number:012d}.tar"

    def close(self) -> None:
        """Unlock the folder. Doing it again, or in a forked child, has no effect."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and os.getpid() == self._process:
            locks.unlock(fd)


def _folder_of(url: str, name: str) -> Path:
    digest = hashlib.sha256(f"{url}\0{name}".encode()).hexdigest()
    return folders.state() / "writers" / digest[:32]


def _has_something(path: Path) -> bool:
    """Return whether a folder has a spool with a datapoint."""
    for records in path.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):
            if records.with_suffix(".tar").stat().st_size:
                return True
    return False


def _is_locked(path: Path) -> bool:
    """Return whether a writer holds the lock, by taking it for a moment."""
    try:
        fd = locks.lock(path, 0)
    except BlockingIOError:
        return True
    locks.unlock(fd)
    return False


def _warn_of_lost(spool: Spool) -> None:
    warnings.warn(
        f"{spool.lost} datapoints from key {spool.next_key} on, in the spool {spool.path}, were not on disk when the "
        "machine stopped; append them again",
        RuntimeWarning,
        stacklevel=2,
    )


def _warn(path: Path, name: str) -> None:
    size = 0
    for archive in path.glob("*.tar"):
        with suppress(FileNotFoundError):  # somebody uploads it
            size += archive.stat().st_size
    warnings.warn(
        f"a writer of {name!r} ended before it had uploaded {size} bytes, which are in {path}; "
        f"upload them by client.writer({name!r}, writer_id={path.name!r}).close()",
        RuntimeWarning,
        stacklevel=2,
    )


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Raise FileError in place of an OSError of the block."""
    try:
        yield
    except (FailedPrecondition, FileError):
        raise
    except OSError as error:
        raise FileError(
            f"the spool folder {folder} cannot be used: {error.strerror or error}; set XDG_STATE_HOME to another folder"
        ) from None
