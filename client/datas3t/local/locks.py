"""Lock files that exclude threads and processes alike (flock). The kernel releases them when their holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MODE = 0o600
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds between tries
_open: set[int] = set()  # held by this process, or tried


@contextmanager
def held(path: Path, *, wait: float = 30.0, keep: bool = False) -> Iterator[int]:
    """Holds the lock file, whose descriptor it gives, and removes it in the end, unless it is to be kept.

    Raises BlockingIOError where somebody else still holds it after `wait` seconds: a process that was stopped would
    hold it for ever.
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


def _locked(path: Path, wait: float) -> int:
    end, pause = time.monotonic() + wait, _FIRST_PAUSE
    while True:
        try:
            if (fd := _tried(path)) is not None:
                return fd
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _tried(path: Path) -> int | None:
    """The lock, or None where its holder has just removed it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    _open.add(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        _release(fd)
        raise
    _release(fd)
    return None


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
