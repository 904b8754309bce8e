"""A cache of files on disk that any number of processes share.

Its size is limited; the least recently used files are removed first. A file is either complete or does not exist.

The names of the cache's files are 64 hexadecimal digits. While a file is fetched, its content is in `<name>.part`, and
the process that fetches it holds the lock `<name>.lock`. The file `.size` counts the bytes of all files. A process may
be killed at any time; others go on without repairing anything first. Other files in the folder are left alone.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from datas3t.local import atomic
from datas3t.local.locks import locked

_FILE = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"([0-9a-f]{64})\.(part|lock)")
_COUNT = ".size"
_COUNT_SIZE = 8  # bytes of the count: an unsigned big-endian number
_FREED_SHARE = 16  # a full cache is emptied by 1/16 of its limit, so that not every new file needs a scan of the folder
_MODE = 0o600  # the data may be private to the user
_TOUCH_AFTER = 10.0  # seconds between updates of a file's time of use, which would otherwise be a write for each read
_MAX_COUNT_WAIT = 5.0  # seconds to wait for the count, which is held while the folder is scanned


class Cached:
    """An open file of the cache. It can be read until it is closed, even if it is removed from the cache since."""

    def __init__(self, fd: int, size: int) -> None:
        """Take over the descriptor of a file of `size` bytes."""
        self._fd = fd
        self.size = size

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`. Several threads may read concurrently.

        Raises:
            EOFError: The file is shorter than `stop` bytes.
        """
        piece = os.pread(self._fd, stop - start, start)
        if len(piece) != stop - start:
            raise EOFError(f"a cached file of {self.size} bytes has no bytes {start} to {stop}")
        return piece

    def close(self) -> None:
        """Close the file. Closing it again has no effect."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        """Return the file, which the block closes at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


class _File(NamedTuple):
    used: int
    size: int
    path: Path


class DiskCache:
    """A cache in a folder.

    Attributes:
        hits: How many files were in the cache when they were requested.
        misses: How many had to be fetched.

    Example:
        >>> cache = DiskCache("/var/cache/indices", max_size=1 << 30)
        >>> with cache.open(name, size, lambda: [download()]) as file:
        ...     file.read(0, 16)
    """

    def __init__(self, folder: str | os.PathLike[str], max_size: int, *, max_wait: float = 30.0) -> None:
        """Open a cache, creating its folder if needed.

        Args:
            folder: The folder. Several caches, in any processes, may use the same one.
            max_size: The maximum size of all complete files, in bytes. Files that are being fetched need space in
                addition.
            max_wait: The maximum number of seconds to wait for another process that fetches a file or updates the
                count. After that methods raise BlockingIOError: the process may have been stopped (SIGSTOP).

        Raises:
            OSError: The folder cannot be created or is not writable.
        """
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(f"the cache folder {self._folder} is not writable")
        self._max_size = max_size
        self._max_wait = max_wait
        self._is_scanned = False
        self.hits = 0
        self.misses = 0

    def open(
        self,
        name: str,
        size: int,
        fetch: Callable[[], Iterable[bytes]],
        *,
        is_valid: Callable[[Cached], bool] | None = None,
    ) -> Cached:
        """Open a file, and fetch it first if it is missing.

        Threads and processes that request the same missing file wait until one of them has fetched it.

        Args:
            name: The name of the file, 64 hexadecimal digits.
            size: The size that the file must have, in bytes. A file of another size is fetched again.
            fetch: Returns the content in pieces.
            is_valid: Checks an existing file. One that is not valid is fetched again.

        Raises:
            ValueError: `fetch` returned another number of bytes.
            BlockingIOError: Another process has not fetched the file in time.
            OSError: The disk is full, or the folder cannot be used.
            Exception: Any exception that `fetch` raises.
        """
        path = self._folder / name
        if (cached := self._open_existing(path, size, is_valid)) is not None:
            self.hits += 1
            return cached
        self._folder.mkdir(parents=True, exist_ok=True)  # someone may have removed the folder
        with locked(path.with_name(f"{name}.lock"), wait=self._max_wait):
            if (cached := self._open_existing(path, size, is_valid)) is not None:
                self.hits += 1
                return cached
            self.misses += 1
            return self._fetch(path, size, fetch)

    def find(self, name: str, size: int, *, is_valid: Callable[[Cached], bool] | None = None) -> Cached | None:
        """Open a file, or return None if it is missing, has another size or is not valid. See `open`."""
        cached = self._open_existing(self._folder / name, size, is_valid)
        self.hits += cached is not None
        return cached

    def fill(self, wanted: Sequence[tuple[str, int]], fetch: Callable[[Sequence[int]], Sequence[bytes]]) -> None:
        """Fetch several missing files in one call. Files that another process is fetching are left out.

        Args:
            wanted: Name and size of each file.
            fetch: Receives the positions in `wanted` of the files to fetch, and returns their contents in that order.

        Raises:
            Exception: See `open`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            mine = [number for number, (name, size) in enumerate(wanted) if self._lock_missing(locks, name, size)]
            self.misses += len(mine)
            for number, content in zip(mine, fetch(mine) if mine else (), strict=True):
                name, size = wanted[number]
                self._fetch(self._folder / name, size, partial(iter, [content])).close()

    def _lock_missing(self, locks: ExitStack, name: str, size: int) -> bool:
        """Take the lock of a file, and return whether this process must fetch it.

        Return False if the file is complete, or if another process holds its lock.
        """
        path = self._folder / name
        if _is_complete(path, size):
            return False
        with suppress(BlockingIOError):
            locks.enter_context(locked(path.with_name(f"{name}.lock"), wait=0))
            return not _is_complete(path, size)
        return False

    def remove(self, name: str) -> None:
        """Remove a file, for example because its content has proved to be wrong."""
        (self._folder / name).unlink(missing_ok=True)

    def bytes_used(self) -> int:
        """Return the size of all complete files in bytes, by scanning the folder."""
        return sum(file.size for file in self._files())

    def _open_existing(self, path: Path, size: int, is_valid: Callable[[Cached], bool] | None) -> Cached | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        cached = Cached(fd, size)
        try:
            status = os.fstat(fd)
            usable = status.st_size == size and (is_valid is None or is_valid(cached))
        except BaseException:
            cached.close()
            raise
        if not usable:
            cached.close()
            return None
        if time.time() - status.st_mtime > _TOUCH_AFTER:
            with suppress(OSError):  # another user's files cannot be touched
                os.utime(fd)
        return cached

    def _fetch(self, path: Path, size: int, fetch: Callable[[], Iterable[bytes]]) -> Cached:
        """Fetch a file, put it into the cache and return it open. The caller holds its lock."""
        part = path.with_name(f"{path.name}.part")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            _write(fd, size, fetch())
            if size > self._max_size:
                part.unlink()  # the caller can read it until it is closed, but it is not kept
            else:
                self._keep(part, path, size)
        except BaseException:
            os.close(fd)
            part.unlink(missing_ok=True)
            raise
        return Cached(fd, size)

    def _keep(self, part: Path, path: Path, size: int) -> None:
        """Add a fetched file to the cache, and remove others if the cache is too large.

        The file is counted before it is renamed: if the process is killed in between, the count is too large, never too
        small. The first scan of each process corrects such a count.
        """
        with locked(self._folder / _COUNT, wait=min(self._max_wait, _MAX_COUNT_WAIT), keep=True) as count:
            known = os.pread(count, _COUNT_SIZE, 0)
            used = min(int.from_bytes(known), self._max_size) + size
            os.pwrite(count, used.to_bytes(_COUNT_SIZE), 0)
            atomic.publish(part, path)
            if used > self._max_size or len(known) < _COUNT_SIZE or not self._is_scanned:
                os.pwrite(count, self._evict().to_bytes(_COUNT_SIZE), 0)
                self._is_scanned = True

    def _evict(self) -> int:
        """Remove leftovers and, if the cache is too large, the least recently used files. Return its new size."""
        files = sorted(self._files())
        total = sum(file.size for file in files)
        if total > self._max_size:
            target = self._max_size - self._max_size // _FREED_SHARE
            for file in files:
                if total <= self._max_size and total - file.size < target:
                    break
                file.path.unlink(missing_ok=True)
                total -= file.size
        self._remove_leftovers()
        return total

    def _files(self) -> Iterator[_File]:
        """Yield the complete files in the folder."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if _FILE.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield _File(status.st_mtime_ns, status.st_size, Path(entry.path))

    def _remove_leftovers(self) -> None:
        """Remove the unfinished files of processes that were killed: those whose lock is free."""
        names = {match[1] for each in os.listdir(self._folder) if (match := _UNFINISHED.fullmatch(each))}
        for name in names:
            with suppress(BlockingIOError), locked(self._folder / f"{name}.lock", wait=0):
                (self._folder / f"{name}.part").unlink(missing_ok=True)


def _is_complete(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _write(fd: int, size: int, pieces: Iterable[bytes]) -> None:
    """Write all pieces. Raise ValueError unless they have `size` bytes together."""
    written = 0
    for piece in pieces:
        written += len(piece)
        if written > size:
            raise ValueError(f"more than the {size} expected bytes were fetched")
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]
    if written != size:
        raise ValueError(f"{written} bytes were fetched instead of {size}")
