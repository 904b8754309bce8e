"""A download that is not complete yet: its bytes in one file next to the output, its finished chunks in another.

The second file begins with a line that identifies what is downloaded and when the machine was started: bytes that were
written before a crash of the machine may not have reached the disk, so chunks count only until it is started again.
A line for each finished chunk follows.
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

from datas3t.client._transfers import output_file
from datas3t.client.errors import FileError


class UnfinishedDownload:
    """The unfinished files of a download to `output`, locked against other downloads to it.

    Attributes:
        fd: The descriptor of the output's bytes, to be written by position.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output_file.partial(output)
        self._chunks_path = self._path.with_name(self._path.name + "-chunks")
        self._chunks_fd: int | None = None
        with output_file.os_errors_as_file_error(output):
            self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if not self._lock():
            os.close(self.fd)
            raise FileError(f"another download to {output} is running; wait for it, or name another output")

    def begin(self, plan: Sequence[object], size: int) -> set[int]:
        """Prepare the files, and return the chunks that an earlier run with the same `plan` has finished.

        Args:
            plan: What identifies the chunks and their bytes; JSON values.
            size: The size of the output, in bytes.
        """
        header = json.dumps({"boot": _boot_id(), "plan": plan, "size": size}, separators=(",", ":"))
        with output_file.os_errors_as_file_error(self._output):
            finished = self._read_chunks(header) if os.fstat(self.fd).st_size == size else set()
            if not finished:
                os.ftruncate(self.fd, 0)
                self._chunks_path.write_text(header + "\n")
                _allocate(self.fd, size)
            if self._chunks_fd is not None:  # the download starts over, with another plan
                os.close(self._chunks_fd)
                self._chunks_fd = None
            self._chunks_fd = os.open(self._chunks_path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return finished

    def mark_finished(self, chunk: int) -> None:
        """Note that all bytes of a chunk are in the file."""
        assert self._chunks_fd is not None
        with output_file.os_errors_as_file_error(self._output):
            os.write(self._chunks_fd, f"{chunk}\n".encode())

    def publish(self) -> None:
        """Rename the file to the output's name, after its last chunk.

        The file of the chunks goes first: after a crash nothing is left beside an output. Syncing the bytes takes
        longest, and a crash during that does not lose the chunks.
        """
        with output_file.os_errors_as_file_error(self._output):
            os.fsync(self.fd)
            self._chunks_path.unlink(missing_ok=True)
        output_file.publish(self._output)

    def remove(self) -> None:
        """Remove the files, so that a later run starts over."""
        for path in (self._path, self._chunks_path):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Close the files and release the lock. If they were not published, a later run can continue with them."""
        for fd in (self.fd, self._chunks_fd):
            if fd is not None:
                os.close(fd)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that held the lock may have renamed the file, which then is its output.
            return os.path.samestat(os.fstat(self.fd), os.stat(self._path))
        except OSError:
            return False

    def _read_chunks(self, header: str) -> set[int]:
        """Return the finished chunks, if the file has this header."""
        try:
            lines = self._chunks_path.read_text().split("\n")
        except (OSError, ValueError):
            return set()
        # The last piece is empty, or a line that a crash cut short.
        return {int(line) for line in lines[1:-1] if line.isdigit()} if lines[0] == header else set()


def _allocate(fd: int, size: int) -> None:
    """Reserve the bytes of the file, all zero, so that a full disk shows now instead of at the end."""
    os.ftruncate(fd, size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # The file system does not support it.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


@cache
def _boot_id() -> str:
    """Return an id that changes at each boot of the machine, or with each process if the system has no such id."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], text=True, timeout=5).strip()
    return str(uuid.uuid4())
