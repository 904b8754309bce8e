"""Handling of a full disk by `datas3t up`: print a message, and restart SeaweedFS when there is space again.

After a failed write to the journal of its directory, SeaweedFS fails every later write until it is restarted.
PostgreSQL continues by itself, or exits.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datas3t.embedded import StackError
from datas3t.embedded.seaweedfs import SeaweedFS
from datas3t.text import escaped

_FULL = b"no space left on device"  # Go's error message, for any file
_MIN_FREE = 32 * 2**20  # bytes
_MARGIN = 16 * 2**20  # bytes of free space above the limit before SeaweedFS is restarted
_RESTART_PAUSE = 30.0  # seconds between two restarts, for a disk that fills up again at once
_CHUNK = 2**20


@dataclass
class DiskWatch:
    """Watches the disk of a data directory. Call `check` about once a second."""

    data_dir: Path
    seaweedfs: SeaweedFS
    bucket: str
    _read: int = field(default=0, init=False)  # bytes of SeaweedFS's log that were searched
    _full: bool = field(default=False, init=False)
    _restarted: float = field(default=float("-inf"), init=False)

    def check(self) -> None:
        """Print a message if the disk is full, and restart SeaweedFS when there is space again."""
        if self._log_says_full() or is_full(self.data_dir):
            if not self._full:
                _print_note(
                    f"the disk of {self.data_dir} is full; uploads fail until there is space, then they work again"
                )
            self._full = True
        elif self._full and _free(self.data_dir) >= _full_below(self.data_dir) + _MARGIN and self._may_restart():
            self.seaweedfs.stop()
            self.seaweedfs.start()
            self.seaweedfs.wait_ready(self.bucket)
            self._log_says_full()  # skip what it logged before it stopped
            self._full, self._restarted = False, time.monotonic()
            _print_note(f"the disk of {self.data_dir} has space again; uploads work")

    def _may_restart(self) -> bool:
        return time.monotonic() - self._restarted >= _RESTART_PAUSE

    def _log_says_full(self) -> bool:
        """Return whether SeaweedFS has logged since the last check that a write failed because the disk is full."""
        is_full_logged = False
        with contextlib.suppress(OSError), self.seaweedfs.log.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, min(self._read, size) - len(_FULL)))
            while chunk := log.read(_CHUNK):
                is_full_logged = is_full_logged or _FULL in chunk
                if len(chunk) == _CHUNK:
                    log.seek(-len(_FULL), os.SEEK_CUR)
            self._read = log.tell()
        return is_full_logged


def is_full(data_dir: Path) -> bool:
    """Return whether the disk has so little free space that SeaweedFS refuses to store objects."""
    return _free(data_dir) < _full_below(data_dir)


@contextlib.contextmanager
def full_disk_named(data_dir: Path) -> Iterator[None]:
    """Add to an error of the block that the disk is full, if it is."""
    try:
        yield
    except (StackError, OSError) as error:
        with contextlib.suppress(OSError):
            if is_full(data_dir):
                raise StackError(
                    f"{error}; the disk of {data_dir} is full: free some space, and start again"
                ) from error
        raise


def _free(data_dir: Path) -> int:
    """Return how many free bytes of the disk this user may use."""
    disk = os.statvfs(data_dir)
    return disk.f_bavail * disk.f_frsize


def _full_below(data_dir: Path) -> int:
    """Return the number of free bytes below which SeaweedFS treats a disk as full: 1% of its size, at least 32 MiB."""
    disk = os.statvfs(data_dir)
    return max(_MIN_FREE, disk.f_blocks * disk.f_frsize // 100)


def _print_note(text: str) -> None:
    print(escaped(text), file=sys.stderr, flush=True)
