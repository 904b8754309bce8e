"""Files on disk that any number of processes share: size-bounded, least recently used out first, whole or not there.

What is ours in the folder is named by 64 hexadecimal digits: the file itself, `.part` while it is fetched, and `.lock`,
which whoever fetches it holds; besides, `.size` counts what all processes have put there. Nothing needs to be cleaned
up before work can go on when somebody dies. Other files are left alone.
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
from datas3t.local.locks import held

_FILE = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"([0-9a-f]{64})\.(part|lock)")
_COUNT = ".size"
_COUNT_SIZE = 8
_ROOM = 16  # a full cache is emptied by this share of its bound, so that not every file put into it needs a look at all
_MODE = 0o600
_USED = 10.0  # seconds for which a file counts as just used
_COUNTING = 5.0  # seconds that it may take to count a file, and to look at all of them


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
    """A folder of at most `max_size` bytes, but for what is being fetched.

    Who fetches a file, or counts one, is waited for: `patience` seconds at most, for it may have been stopped; then
    BlockingIOError is raised. Raises OSError where the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], max_size: int, *, patience: float = 30.0) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(f"the cache folder {self._folder} cannot be written to")
        self._max_size = max_size
        self._patience = patience
        self._looked = False
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
        self._folder.mkdir(parents=True, exist_ok=True)  # whoever tidies up may have taken it away
        with held(path.with_name(f"{name}.lock"), wait=self._patience):
            if (found := self._opened(path, size, sound)) is not None:
                self.hits += 1
                return found
            self.misses += 1
            return self._fetched(path, size, fetch)

    def find(self, name: str, size: int, *, sound: Callable[[Cached], bool] | None = None) -> Cached | None:
        """The file of that name, if it is there and right."""
        found = self._opened(self._folder / name, size, sound)
        self.hits += found is not None
        return found

    def fill(self, wanted: Sequence[tuple[str, int]], fetch: Callable[[Sequence[int]], Sequence[bytes]]) -> None:
        """Fetches together, in one call, what is missing of these files, given by name and size, and what nobody else
        fetches now. `fetch` gets their numbers in `wanted`, and answers their contents."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            mine = [number for number, (name, size) in enumerate(wanted) if self._is_ours(locks, name, size)]
            self.misses += len(mine)
            for number, content in zip(mine, fetch(mine) if mine else (), strict=True):
                name, size = wanted[number]
                self._fetched(self._folder / name, size, partial(iter, [content])).close()

    def _is_ours(self, locks: ExitStack, name: str, size: int) -> bool:
        """Takes the lock of a file that is missing, if it is free."""
        path = self._folder / name
        if _is_whole(path, size):
            return False
        with suppress(BlockingIOError):
            locks.enter_context(held(path.with_name(f"{name}.lock"), wait=0))
            return not _is_whole(path, size)
        return False

    def remove(self, name: str) -> None:
        """Removes a file that has turned out to be wrong."""
        (self._folder / name).unlink(missing_ok=True)

    def bytes_used(self) -> int:
        """The size of all files that are kept, by looking."""
        return sum(file.size for file in self._files())

    def _opened(self, path: Path, size: int, sound: Callable[[Cached], bool] | None) -> Cached | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        cached = Cached(fd, size)
        try:
            status = os.fstat(fd)
            right = status.st_size == size and (sound is None or sound(cached))
        except BaseException:
            cached.close()
            raise
        if not right:
            cached.close()
            return None
        if time.time() - status.st_mtime > _USED:  # to say so each time would be a write to disk for each read
            with suppress(OSError):  # a folder of somebody else's may not let us
                os.utime(fd)
        return cached

    def _fetched(self, path: Path, size: int, fetch: Callable[[], Iterable[bytes]]) -> Cached:
        part = path.with_name(f"{path.name}.part")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            _fill(fd, size, fetch())
            if size > self._max_size:
                part.unlink()  # served as long as it is open, but never kept
            else:
                self._keep(part, path, size)
        except BaseException:
            os.close(fd)
            part.unlink(missing_ok=True)
            raise
        return Cached(fd, size)

    def _keep(self, part: Path, path: Path, size: int) -> None:
        """Puts a file into its place. It is counted first: who dies in between has counted too much, never too little.

        The first look of a process sets right what others that died or files that others removed made wrong.
        """
        with held(self._folder / _COUNT, wait=min(self._patience, _COUNTING), keep=True) as count:
            known = os.pread(count, _COUNT_SIZE, 0)
            used = min(int.from_bytes(known), self._max_size) + size
            os.pwrite(count, used.to_bytes(_COUNT_SIZE), 0)
            atomic.publish(part, path)
            if used > self._max_size or len(known) < _COUNT_SIZE or not self._looked:
                os.pwrite(count, self._evict().to_bytes(_COUNT_SIZE), 0)
                self._looked = True

    def _evict(self) -> int:
        """Removes the least recently used where there are too many, and what the dead left; the size of those kept."""
        files = sorted(self._files())
        total = sum(file.size for file in files)
        if total > self._max_size:
            enough = self._max_size - self._max_size // _ROOM
            for file in files:
                if total <= self._max_size and total - file.size < enough:
                    break
                file.path.unlink(missing_ok=True)
                total -= file.size
        self._sweep()
        return total

    def _files(self) -> Iterator[_File]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if _FILE.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield _File(status.st_mtime_ns, status.st_size, Path(entry.path))

    def _sweep(self) -> None:
        """Removes what the dead left: unfinished files whose lock nobody holds."""
        names = {found[1] for each in os.listdir(self._folder) if (found := _UNFINISHED.fullmatch(each))}
        for name in names:
            with suppress(BlockingIOError), held(self._folder / f"{name}.lock", wait=0):
                (self._folder / f"{name}.part").unlink(missing_ok=True)


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _fill(fd: int, size: int, pieces: Iterable[bytes]) -> None:
    """Writes all pieces; raises ValueError unless they have `size` bytes."""
    written = 0
    for piece in pieces:
        written += len(piece)
        if written > size:
            raise ValueError(f"more than the {size} bytes expected were fetched")
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]
    if written != size:
        raise ValueError(f"{written} bytes were fetched instead of {size}")
