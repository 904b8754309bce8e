"""Indices and checksums that the server makes: temporary files, as they may not fit into memory, and their objects."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import IO

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing

IN_MEMORY = 1 << 20  # bytes, or 65,536 datapoints; the indices of most archives are smaller and are not written to disk
_PIECE = 1 << 20  # bytes that are hashed at a time

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


def put_once(bucket: Bucket, key: str, content: IO[bytes]) -> str:
    """Write an object, unless it is there with this content, and return its ETag.

    Of two calls that do the same, the later one must not write what the earlier one has committed: in some stores the
    ETag changes with each PUT, such as in those that encrypt with keys of their own.
    """
    stored = bucket.head(key)
    with suppress(ObjectMissing, ObjectChanged):
        size = content.seek(0, os.SEEK_END)
        if stored is not None and stored.size == size and has_content(bucket, key, stored, content):
            return stored.etag
    content.seek(0)
    return bucket.put(key, content)


def has_content(bucket: Bucket, key: str, stored: ObjectInfo, expected: IO[bytes]) -> bool:
    """Whether a stored object has the bytes of the file `expected`, which has the same length.

    Raises ObjectMissing or ObjectChanged if it is not the stored one any more.
    """
    if stored.etag == md5_of(expected):  # most stores use the MD5 as the ETag, which saves the request
        return True
    expected.seek(0)
    return all(expected.read(len(piece)) == piece for piece in bucket.stream(key, 0, stored.size, etag=stored.etag))


def md5_of(content: IO[bytes]) -> str:
    """Return the MD5 of a whole file, in hexadecimal digits."""
    content.seek(0)
    digest = md5(usedforsecurity=False)
    for piece in iter(partial(content.read, _PIECE), b""):
        digest.update(piece)
    return digest.hexdigest()
