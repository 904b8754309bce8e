"""One run at a time in a data directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from datas3t.embedded.errors import StackError


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Makes the directory if need be, and holds it for this process; a StackError if another one does.

    The kernel lets go of it when the process ends, however it ends.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StackError(f"cannot use {data_dir}: {error.strerror}; choose another data directory") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode() or "unknown"
            raise StackError(
                f"{data_dir} is in use by another datas3t up (process {holder});"
                " stop that one, or choose another data directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
