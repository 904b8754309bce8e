"""The archive file of an upload: opened once, read by position, and not to change until the upload is complete."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datas3t.client.errors import FileError


@dataclass(frozen=True, slots=True)
class Source:
    """An open archive file as it was when the upload began; `path` is absolute."""

    path: str
    fd: int
    size: int
    mtime_ns: int

    def check_unchanged(self) -> None:
        """Raises FileError if the file was written to, or replaced, meanwhile."""
        try:
            now, there = os.fstat(self.fd), os.stat(self.path)
        except OSError as error:
            raise FileError(
                f"{self.path} is gone ({error.strerror}): it must stay until the upload is complete"
            ) from None
        same_file = (now.st_dev, now.st_ino) == (there.st_dev, there.st_ino)
        if not same_file or (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise FileError(f"{self.path} changed while it was uploaded; upload it again when nobody writes to it")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Source]:
    """The file for as long as the block lasts. Raises FileError where it is no readable regular file."""
    absolute = os.path.abspath(path)
    try:
        fd = os.open(absolute, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise FileError(f"{absolute} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileError(f"{absolute} is not a regular file; name a TAR archive")
        yield Source(absolute, fd, found.st_size, found.st_mtime_ns)
    finally:
        os.close(fd)
