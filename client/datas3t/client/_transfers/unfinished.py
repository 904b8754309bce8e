"""A download that is not whole yet: its bytes in one file beside the target, the chunks that are there in another.

The second begins with a line that names what is downloaded and the boot of the machine: bytes that were written before
a crash of the machine may never have reached the disk, so they count only within the same boot. A line for each chunk
that is whole follows.
"""

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from datas3t.client._transfers import output
from datas3t.client.errors import FileError


class Unfinished:
    """The bytes of a download to `target`, locked against another one to the same file. `fd` takes them by position."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = output.part(target)
        self._chunks = self._path.with_name(self._path.name + "-chunks")
        self._notes: int | None = None
        with output.as_file_error(target):
            self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if not self._locked():
            os.close(self.fd)
            raise FileError(f"another download to {target} is running; wait for it, or write elsewhere")

    def begin(self, plan: Sequence[object], size: int) -> set[int]:
        """Makes room for `size` bytes, and returns the chunks that are there from an earlier run of the same `plan`."""
        header = json.dumps({"boot": _boot(), "plan": plan, "size": size}, separators=(",", ":"))
        with output.as_file_error(self._target):
            done = self._noted(header) if os.fstat(self.fd).st_size == size else set()
            if not done:
                os.ftruncate(self.fd, 0)
                self._chunks.write_text(header + "\n")
                _allocate(self.fd, size)
            self._notes = os.open(self._chunks, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return done

    def note(self, chunk: int) -> None:
        """The chunk is whole in the file."""
        assert self._notes is not None
        with output.as_file_error(self._target):
            os.write(self._notes, f"{chunk}\n".encode())

    def publish(self) -> None:
        """All chunks are there: the target appears."""
        output.publish(self._path, self._target)
        self._chunks.unlink(missing_ok=True)

    def remove(self) -> None:
        """There is nothing to go on from."""
        for path in (self._path, self._chunks):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Lets go of the files; what is not published stays for the next run."""
        for fd in (self.fd, self._notes):
            if fd is not None:
                os.close(fd)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(self.fd), os.stat(self._path))  # not renamed by the one that held the lock
        except OSError:
            return False

    def _noted(self, header: str) -> set[int]:
        try:
            lines = self._chunks.read_text().split("\n")
        except (OSError, ValueError):
            return set()
        # The last piece is empty, or a line that a crash cut short.
        return {int(line) for line in lines[1:-1] if line.isdigit()} if lines[0] == header else set()


def _allocate(fd: int, size: int) -> None:
    """All zeros; a disk without room for them says so now rather than at the end."""
    os.ftruncate(fd, size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


@cache
def _boot() -> str:
    """Names the time since the machine was started."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], text=True, timeout=5).strip()
    return str(uuid.uuid4())
