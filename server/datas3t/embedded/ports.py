"""The ports of the stack, kept in the data directory: bucket configurations hold S3's, so it must not move."""

import contextlib
import json
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from datas3t.embedded.errors import StackError
from datas3t.local import atomic

NAMES = (
    "postgres",
    "s3",
    "s3_grpc",
    "master",
    "master_grpc",
    "volume",
    "volume_grpc",
    "filer",
    "filer_grpc",
    "admin",
    "admin_grpc",
)

# Below the ports that systems hand to outgoing connections: those come and go, and one could sit on ours at a restart.
_RANGE = range(20_000, 32_000)
_PATIENCE = 2.0  # seconds


def of(folder: Path) -> dict[str, int]:
    """The same ports as before, where they are still free, else new ones; a StackError if S3's own is taken."""
    file = folder / "ports.json"
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    if "s3" in known and not _becomes_free(known["s3"]):
        raise StackError(
            f"port {known['s3']}, where bucket configurations expect S3, is taken by another program;"
            f" stop it, or change the port in {file} and every bucket's endpoint"
        )
    kept = {name: port for name, port in known.items() if name in NAMES and is_free(port)}
    missing = [name for name in NAMES if name not in kept]
    ports = kept | dict(zip(missing, free(len(missing), taken=list(kept.values())), strict=True))
    if ports != known:
        atomic.write(file, (json.dumps(ports, indent=2) + "\n").encode(), mode=0o644)
    return ports


def free(count: int, taken: Sequence[int] = ()) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens now."""
    candidates = (port for port in random.sample(_RANGE, len(_RANGE)) if port not in taken and is_free(port))
    return [next(candidates) for _ in range(count)]


def _becomes_free(port: int) -> bool:
    """A process that was just killed holds its port a moment longer than it can be seen."""
    deadline = time.monotonic() + _PATIENCE
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are no listener
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False
