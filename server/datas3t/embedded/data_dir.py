"""The data directory: its lock, which one process holds at a time, and its secrets, which are created once."""

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datas3t.embedded import StackError
from datas3t.local import atomic, locks


@dataclass(frozen=True)
class Secrets:
    """What the services must have at every start. The repr shows nothing."""

    encryption_key: str = field(repr=False)
    db_password: str = field(repr=False)
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Create the data directory if it does not exist, and hold its lock for the duration of the block.

    The kernel releases the lock when the process ends, however it ends. Raises StackError if another process holds the
    lock, or if the directory cannot be used.
    """
    lock = data_dir / "lock"
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = stack.enter_context(locks.locked(lock, wait=0, keep=True))
        except BlockingIOError:
            holder = lock.read_text() or "unknown"
            raise StackError(
                f"{data_dir} is in use by another datas3t up (process {holder});"
                " stop that one, or choose another data directory"
            ) from None
        except OSError as error:
            raise StackError(
                f"cannot use {data_dir}{_variable(data_dir)}: {error.strerror}; choose another data directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


def _variable(data_dir: Path) -> str:
    """Return which variable of the shell has led to a data directory, in brackets, or "" if none has."""
    folder = os.environ.get("XDG_DATA_HOME")
    return " (a folder of XDG_DATA_HOME)" if folder and data_dir.is_relative_to(folder) else ""


def load_secrets(data_dir: Path) -> Secrets:
    """Return the secrets of a data directory, which are created at its first use.

    Raises StackError if the directory has data, but its secrets are missing.
    """
    file = data_dir / "secrets.json"
    if file.exists():
        return Secrets(**json.loads(file.read_text()))
    if (data_dir / "postgres").exists():
        raise StackError(
            f"{file} is missing, and the data in {data_dir} cannot be opened without it;"
            " restore the file, or choose another data directory"
        )
    created = Secrets(
        encryption_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        db_password=secrets.token_hex(24),
        s3_access_key=secrets.token_hex(10),
        s3_secret_key=secrets.token_hex(20),
    )
    write_private(file, asdict(created))
    return created


def write_private(file: Path, content: object) -> None:
    """Write a JSON file that only its owner can read. The file appears whole or not at all."""
    atomic.write(file, (json.dumps(content, indent=2) + "\n").encode(), durable=True)
