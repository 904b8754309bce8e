"""Temporary files for indices and checksums that are being made, which can be larger than memory should hold."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from datas3t import v1
from datas3t.server.errors import Failure

IN_MEMORY = 1 << 20  # bytes, or 65,536 datapoints; the indices of most archives are smaller and are not written to disk

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)


@contextmanager
def spool(folder: Path, what: str = "an index") -> Iterator[IO[bytes]]:
    """Yield an empty file to write and read, which moves from memory to `folder` when it grows large.

    The file has no name, so nothing is left of it even if the process is killed. Raise INTERNAL, with what to do about
    it, if the disk does not accept what the block writes; `what` names that.
    """
    try:
        # A small index needs no folder. A larger one needs it, even if it was removed while the server was running.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.SpooledTemporaryFile(IN_MEMORY, "w+b", dir=str(folder)) as file:
            yield file
    except OSError as error:
        if error.errno not in (*_FULL, *_NOT_WRITABLE):
            raise
        action = "free some space there" if error.errno in _FULL else "make the folder writable"
        message = f"the server cannot write {what} to its cache folder: {error.strerror}; {action}, then call again"
        raise Failure(v1.ERROR_REASON_INTERNAL, message) from error
