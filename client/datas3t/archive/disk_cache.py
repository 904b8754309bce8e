"""Files on disk that any number of processes share: size-bounded, least recently used out first, whole or not there.

What is ours in the folder is named by 64 hexadecimal digits: the file itself, `.part` while it is fetched, and `.lock`,
which whoever fetches it holds by flock. The kernel releases it when its holder dies, so nothing needs to be cleaned up
before work can go on. Other files are left alone.
"""

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_OURS = re.compile(r"[0-9a-f]{64}(\.part|\.lock)?")
_EVICTING = ".evicting"
_UNSEEN = 16  # a scan is due when this share of the bound was added since the last
_MODE = 0o600


class Cached:
    """An open file: it can be read as long as it is open, also when it has left the cache meanwhile."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, start: int, stop: int) -> bytes:
        """Exactly these bytes; several threads may read at once."""
        piece = os.pread(self._fd, stop - start, start)
        if len(piece) != stop - start:
            raise EOFError(f"a cached file has {self.size} bytes, but {start} to {stop} were asked for")
        return piece

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _File(NamedTuple):
    used: int
    size: int
    path: Path


class DiskCache:
    """A folder of at most `max_size` bytes. Raises OSError where the folder cannot be made or written to."""

    def __init__(self, folder: str | os.PathLike[str], max_size: int) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(f"the cache folder {self._folder} cannot be written to")
        self._max_size = max_size
        self._lock = threading.Lock()
        self._seen: int | None = None  # what the last scan found
        self._added = 0  # by this process, since
        self.hits = 0
        self.misses = 0

    def open(
        self,
        name: str,
        size: int,
        fetch: Callable[[], Iterable[bytes]],
        *,
        sound: Callable[[Cached], bool] | None = None,
    ) -> Cached:
        """The file of that name, 64 hexadecimal digits, which must have `size` bytes; fetched once where it is missing.

        A file of another size, or one that is not `sound`, is fetched anew. Raises what `fetch` raises, and ValueError
        where that answers another size. Many that miss one file wait for the one that fetches it; nobody else does.
        """
        path = self._folder / name
        if (found := self._opened(path, size, sound)) is not None:
            self.hits += 1
            return found
        with _held(path.with_name(name + ".lock")):
            if (found := self._opened(path, size, sound)) is not None:
                self.hits += 1
                return found
            self.misses += 1
            return self._fetched(path, size, fetch)

    def bytes_used(self) -> int:
        """The size of all files of ours, by looking."""
        return sum(file.size for file in self._files())

    def _opened(self, path: Path, size: int, sound: Callable[[Cached], bool] | None) -> Cached | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        cached = Cached(fd, size)
        if os.fstat(fd).st_size != size or (sound is not None and not sound(cached)):
            cached.close()
            return None
        with suppress(OSError):  # it is used now; a folder of somebody else's may not let us say so
            os.utime(fd)
        return cached

    def _fetched(self, path: Path, size: int, fetch: Callable[[], Iterable[bytes]]) -> Cached:
        part = path.with_name(path.name + ".part")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            written = 0
            for piece in fetch():
                written += len(piece)
                _write(fd, piece)
            if written != size:
                raise ValueError(f"{written} bytes were fetched instead of {size}")
            if size > self._max_size:
                part.unlink()  # served as long as it is open, but never kept
            else:
                part.rename(path)
                self._note(size)
        except BaseException:
            os.close(fd)
            part.unlink(missing_ok=True)
            raise
        return Cached(fd, size)

    def _note(self, size: int) -> None:
        with self._lock:
            self._added += size
            known = None if self._seen is None else self._seen + self._added
            if known is not None and known <= self._max_size and self._added <= self._max_size // _UNSEEN:
                return
            self._seen, self._added = self._evict(), 0

    def _evict(self) -> int:
        """Removes the least recently used until the bound holds; what is left. Others' eviction is as good as ours."""
        with suppress(BlockingIOError), _held(self._folder / _EVICTING, wait=False):
            files = sorted(self._files())
            total = sum(file.size for file in files)
            for file in files:
                if total <= self._max_size:
                    break
                file.path.unlink(missing_ok=True)
                total -= file.size
            self._sweep()
            return total
        return self.bytes_used()

    def _files(self) -> Iterator[_File]:
        for entry in os.scandir(self._folder):
            if _OURS.fullmatch(entry.name) and not entry.name.endswith(".lock"):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield _File(status.st_mtime_ns, status.st_size, Path(entry.path))

    def _sweep(self) -> None:
        """Removes what the dead left: `.part` files whose lock nobody holds."""
        for part in self._folder.glob("*.part"):
            if _OURS.fullmatch(part.name):
                with suppress(BlockingIOError), _held(part.with_suffix(".lock"), wait=False):
                    part.unlink(missing_ok=True)


@contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock file, which is removed in the end. Raises BlockingIOError where it may not wait for it."""
    fd = _locked(path, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _locked(path: Path, wait: bool) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(fd).st_nlink:  # else: its holder removed it while we waited
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
