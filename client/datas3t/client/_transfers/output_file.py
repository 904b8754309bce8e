"""Output files that appear complete or not at all: written under a temporary name in the same folder, then renamed."""

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datas3t.client.errors import Datas3tError, FileError
from datas3t.local import atomic


def resolve(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of an output, with links resolved. Raise FileError if no file can be written there."""
    resolved = Path(os.path.realpath(path))
    folder = resolved.parent
    with os_errors_as_file_error(resolved):
        if not folder.is_dir():
            raise FileError(f"{folder} is not a folder; create it, or name another output")
        if resolved.exists() and not stat.S_ISREG(resolved.stat().st_mode):
            raise FileError(f"{resolved} exists and is not a regular file; name another output")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FileError(f"{folder} is not writable; name another output, or change its permissions")
    return resolved


def partial(path: Path) -> Path:
    """Return the temporary name of an output until it is complete."""
    return path.with_name(f".{path.name}.datas3t-part")


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
