"""The archive file of an upload, which must not change until the upload is complete."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datas3t.client._calls.arguments import check_path
from datas3t.client.errors import FileError


@dataclass(frozen=True, slots=True)
class Source:
    """An open archive file, with its properties at the start of the upload.

    Attributes:
        path: The absolute path.
        fd: The descriptor, to be read by position.
        size: The size in bytes.
        mtime_ns: The time of the last modification, in nanoseconds.
    """

    path: str
    fd: int
    size: int
    mtime_ns: int

    def check_unchanged(self) -> None:
        """Raise FileError if the file was modified, replaced or removed since it was opened."""
        try:
            opened, named = os.fstat(self.fd), os.stat(self.path)
        except OSError as error:
            raise FileError(
                f"{self.path} is gone ({error.strerror}); it must exist until the upload is complete"
            ) from None
        same_file = (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
        if not same_file or (opened.st_size, opened.st_mtime_ns) != (self.size, self.mtime_ns):
            raise FileError(f"{self.path} changed while it was uploaded; upload it again when nothing writes to it")


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open an archive file for the block.

    Raises:
        InvalidArgument: The path is empty.
        FileError: It is not a readable regular file.
    """
    absolute = os.path.abspath(check_path(path, "the archive"))
    try:
        # O_NONBLOCK: opening a pipe would wait for a writer.
        fd = os.open(absolute, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise FileError(f"{absolute} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{absolute} is not a regular file; name a TAR archive")
        yield Source(absolute, fd, status.st_size, status.st_mtime_ns)
    finally:
        os.close(fd)
