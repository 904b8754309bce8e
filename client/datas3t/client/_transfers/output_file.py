"""Output files that appear complete or not at all: written under a temporary name in the same folder, then renamed."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datas3t.client._calls.arguments import check_path
from datas3t.client.errors import Datas3tError, FileError
from datas3t.local import atomic

_PARTIAL = ".datas3t-part"
_MAX_NAME = 240  # bytes; the longest name of usual file systems has 255, and some suffixes are added


def resolve(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of an output, with links resolved.

    Raises:
        InvalidArgument: The path is empty.
        FileError: No file can be written there.
    """
    given = check_path(path, "the output")
    if os.path.basename(given) in ("", ".", ".."):
        raise FileError(f"{given} names a folder; add the name of a file")
    resolved = Path(os.path.realpath(given))
    folder = resolved.parent
    with os_errors_as_file_error(Path(given)):
        # First, because links to pipes lead to names that do not exist.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if not stat.S_ISREG(mode := os.stat(given).st_mode):
                raise FileError(f"{given} is {_kind(mode)}, not a regular file; name another output")
        if not folder.is_dir():
            raise FileError(f"{folder} is not a folder; create it, or name another output")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FileError(f"{folder} is not writable; name another output, or change its permissions")
    return resolved


def partial(path: Path) -> Path:
    """Return the temporary name of an output until it is complete."""
    name = f".{path.name}{_PARTIAL}"
    if len(os.fsencode(name)) > _MAX_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}{_PARTIAL}"
    return path.with_name(name)


def publish(path: Path) -> None:
    """Rename a complete, closed output from its temporary name to `path`. It survives a power failure."""
    with os_errors_as_file_error(path):
        atomic.publish(partial(path), path, durable=True)


@contextmanager
def os_errors_as_file_error(path: Path) -> Iterator[None]:
    """Raise a FileError that names `path` in place of an OSError of the block, such as a full disk."""
    try:
        yield
    except Datas3tError:  # FileError and others are OSErrors too
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def partial_removed(*paths: Path) -> Iterator[None]:
    """Remove the temporary files of these outputs when the block ends, if they still exist."""
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                partial(path).unlink()


def _kind(mode: int) -> str:
    """Return in words what a file is that is not a regular one."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
