"""The file of an index that is being made: once it is large it lies on the disk that the index cache is on."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from datas3t import v1
from datas3t.server.errors import Failure

IN_MEMORY = 1 << 20  # bytes: the index of most archives never sees the disk

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNFIT = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)


@contextmanager
def spool(folder: Path) -> Iterator[IO[bytes]]:
    """An empty file to write and to read. It has no name: nothing is left of it, whoever dies.

    Raises INTERNAL, with what to do, where the disk does not take what the block writes.
    """
    try:
        with suppress(OSError):  # a short index does without
            folder.mkdir(parents=True, exist_ok=True)  # whoever tidies up may have taken it away
        with tempfile.SpooledTemporaryFile(IN_MEMORY, "w+b", dir=str(folder)) as file:
            yield file
    except OSError as error:
        if error.errno not in (*_FULL, *_UNFIT):
            raise
        help_ = "make room there" if error.errno in _FULL else "let it write there"
        message = f"the server cannot write an index to its cache folder: {error.strerror}; {help_}, then call again"
        raise Failure(v1.ERROR_REASON_INTERNAL, message) from error
