"""Lock files that exclude threads and processes alike (flock). The kernel releases them when their holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MODE = 0o600
_open: set[int] = set()  # held by this process, or waited for


@contextmanager
def held(path: Path, *, wait: bool = True, keep: bool = False) -> Iterator[int]:
    """Holds the lock file, whose descriptor it gives, and removes it in the end, unless it is to be kept.

    Raises BlockingIOError where somebody else holds it and it may not wait.
    """
    fd = _locked(path, wait)
    try:
        yield fd
    finally:
        try:
            if not keep:
                path.unlink(missing_ok=True)
        finally:
            _release(fd)


def _locked(path: Path, wait: bool) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        _open.add(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(fd).st_nlink:  # else: its holder removed it while we waited
                return fd
        except BaseException:
            _release(fd)
            raise
        _release(fd)


def _release(fd: int) -> None:
    """Unlocks by name, for closing alone would leave the lock to a child that was forked meanwhile."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    _open.discard(fd)
    os.close(fd)


def _forget() -> None:
    """In a forked child: its copies would hold the parent's locks beyond the parent's death."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_forget)
