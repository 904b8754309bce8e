"""Output files that appear whole or not at all: written beside their target under another name, then renamed."""

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datas3t.client.errors import Datas3tError, FileError
from datas3t.local import atomic


def target(path: str | os.PathLike[str]) -> Path:
    """Where the output will be: absolute, links followed. Raises FileError where no file can be put there."""
    found = Path(os.path.realpath(path))
    with as_file_error(found):
        if not found.parent.is_dir():
            raise FileError(f"{found.parent} is no folder; create it, or write elsewhere")
        if found.exists() and not stat.S_ISREG(found.stat().st_mode):
            raise FileError(f"{found} exists and is not a regular file; name another output")
        if not os.access(found.parent, os.W_OK | os.X_OK):
            raise FileError(f"{found.parent} is not writable; write elsewhere, or change its permissions")
    return found


def part(path: Path) -> Path:
    """Where the output is until it is whole."""
    return path.with_name(f".{path.name}.datas3t-part")


def publish(unfinished: Path, path: Path) -> None:
    """Makes a finished, closed file appear under its name, also after a loss of power."""
    with as_file_error(path):
        atomic.publish(unfinished, path, durable=True)


@contextmanager
def as_file_error(path: Path) -> Iterator[None]:
    """Turns what the system says about `path`, such as a full disk, into a FileError."""
    try:
        yield
    except Datas3tError:  # some are OSErrors too
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def gone_unless_renamed(*paths: Path) -> Iterator[None]:
    """Removes the files at the end of the block, however it ends, if they are still there."""
    try:
        yield
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()
