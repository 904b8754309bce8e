"""Lock files, which exclude threads and processes alike (flock). The kernel releases a lock when its holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MODE = 0o600  # only processes of the same user share locks
_FIRST_PAUSE, _MAX_PAUSE = 0.001, 0.05  # seconds between attempts to take a lock
_open: set[int] = set()  # descriptors of lock files that this process holds or is about to lock


@contextmanager
def locked(path: Path, *, wait: float = 30.0, keep: bool = False) -> Iterator[int]:
    """Hold a lock file for the duration of the block.

    Args:
        path: The lock file. It is created if it does not exist; its folder must exist.
        wait: The maximum time to wait for another holder, in seconds. A holder that was stopped (SIGSTOP) would
            otherwise be waited for forever.
        keep: Keep the file after the block instead of removing it.

    Yields:
        The descriptor of the file, for reading and writing.

    Raises:
        BlockingIOError: Another thread or process still holds the lock after `wait` seconds.
        OSError: The file cannot be created.
    """
    fd = lock(path, wait)
    try:
        yield fd
    finally:
        try:
            if not keep:
                path.unlink(missing_ok=True)
        finally:
            unlock(fd)


def lock(path: Path, wait: float) -> int:
    """Lock the file and return its descriptor, for `unlock`. Raises what `locked` raises.

    A forked child has no descriptor any more, and must not unlock.
    """
    end, pause = time.monotonic() + wait, _FIRST_PAUSE
    while True:
        try:
            if (fd := _try_lock(path)) is not None:
                return fd
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)


def _try_lock(path: Path) -> int | None:
    """Lock the file without waiting. Return None if its previous holder removed it in the meantime."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    _open.add(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        unlock(fd)
        raise
    unlock(fd)
    return None


def unlock(fd: int) -> None:
    """Unlock and close. Closing alone would leave the lock to a child process that was forked in the meantime."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    _open.discard(fd)
    os.close(fd)


def _close_inherited() -> None:
    """Close the lock files in a forked child, so that it does not keep its parent's locks after the parent's death."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_close_inherited)
