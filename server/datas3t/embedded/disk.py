"""What `datas3t up` does about a full disk: it says so, and has SeaweedFS store objects again when there is room.

SeaweedFS remembers that a write to the journal of its directory has failed, and fails every later one, until it is
started again. PostgreSQL goes on by itself, or ends.
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

_FULL = b"no space left on device"  # as Go says it, whichever file it is about
_LEAST = 32 * 2**20  # bytes
_MARGIN = 16 * 2**20  # bytes
_RESTART_PAUSE = 30.0  # seconds, for a disk that is full again and again
_CHUNK = 2**20


@dataclass
class DiskWatch:
    """Look after the disk of a data directory: call `look` about once a second."""

    data_dir: Path
    seaweedfs: SeaweedFS
    bucket: str
    _read: int = field(default=0, init=False)  # bytes of SeaweedFS's log that were looked at
    _full: bool = field(default=False, init=False)
    _restarted: float = field(default=float("-inf"), init=False)

    def look(self) -> None:
        """Tell that the disk is full, or start SeaweedFS again when there is room after that."""
        if self._log_says_full() or is_full(self.data_dir):
            if not self._full:
                _tell(f"the disk of {self.data_dir} is full; uploads fail until there is room, then they work again")
            self._full = True
        elif self._full and _free(self.data_dir) >= _low(self.data_dir) + _MARGIN and self._may_restart():
            self.seaweedfs.stop()
            self.seaweedfs.start()
            self.seaweedfs.wait_ready(self.bucket)
            self._log_says_full()  # what it logged until its end counts no more
            self._full, self._restarted = False, time.monotonic()
            _tell(f"the disk of {self.data_dir} has room again; uploads work")

    def _may_restart(self) -> bool:
        return time.monotonic() - self._restarted >= _RESTART_PAUSE

    def _log_says_full(self) -> bool:
        """Return whether SeaweedFS has logged since the last look that a write failed for lack of room."""
        found = False
        with contextlib.suppress(OSError), self.seaweedfs.log.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, min(self._read, size) - len(_FULL)))
            while chunk := log.read(_CHUNK):
                found = found or _FULL in chunk
                if len(chunk) == _CHUNK:
                    log.seek(-len(_FULL), os.SEEK_CUR)
            self._read = log.tell()
        return found


def is_full(data_dir: Path) -> bool:
    """Return whether there is so little room on the disk that SeaweedFS stores nothing."""
    return _free(data_dir) < _low(data_dir)


@contextlib.contextmanager
def full_disk_named(data_dir: Path) -> Iterator[None]:
    """Have an error from the block say that the disk is full, if it is."""
    try:
        yield
    except (StackError, OSError) as error:
        with contextlib.suppress(OSError):
            if is_full(data_dir):
                raise StackError(f"{error}; the disk of {data_dir} is full: make room, and start again") from error
        raise


def _free(data_dir: Path) -> int:
    """Return how many bytes the disk has for us."""
    disk = os.statvfs(data_dir)
    return disk.f_bavail * disk.f_frsize


def _low(data_dir: Path) -> int:
    """Return the number of free bytes below which SeaweedFS takes a disk for full: one percent, or a little."""
    disk = os.statvfs(data_dir)
    return max(_LEAST, disk.f_blocks * disk.f_frsize // 100)


def _tell(text: str) -> None:
    print(escaped(text), file=sys.stderr, flush=True)
