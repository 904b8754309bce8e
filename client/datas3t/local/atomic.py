"""Files that appear under their name whole or not at all.

A file is written under a temporary name in the same folder and then renamed, which replaces an existing file in one
step. Other processes see either the old file or the new one.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file, replacing an existing one. If that fails, the existing file is left as it was.

    Args:
        path: The file. Its folder must exist.
        content: All bytes of the new file.
        mode: The permissions of the new file, less the umask.
        durable: Wait until the file is on disk, so that it also survives a power failure.

    Raises:
        OSError: The file could not be written, for example because the disk is full.
    """
    # The name is unique because several processes may write the same file concurrently.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
        publish(temporary, path, durable=durable)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def publish(unfinished: Path, path: Path, *, durable: bool = False) -> None:
    """Rename a finished file to its final name, replacing an existing file.

    Args:
        unfinished: The file, written and closed, in the same folder as `path`.
        path: The final name.
        durable: Wait until the content and the name are on disk, so that they also survive a power failure.

    Raises:
        OSError: The file could not be renamed or synchronized.
    """
    if durable:
        _sync(unfinished)
    unfinished.replace(path)
    if durable:
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
