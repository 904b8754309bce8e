"""The ports of the services. They are kept in the data directory: bucket configurations name the port of S3."""

import contextlib
import json
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from datas3t.embedded import StackError
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

# Below the ports that systems assign to outgoing connections: such a connection could have our port at a restart.
_RANGE = range(20_000, 32_000)
_RELEASE_SECONDS = 2.0  # a process that was just killed holds its port a little longer than it can be seen


def choose(data_dir: Path) -> dict[str, int]:
    """Return a port for each of NAMES: the one of the last start if it is free, otherwise a new one.

    Raises StackError if the port of S3 is in use, because bucket configurations name it.
    """
    file = data_dir / "ports.json"
    previous: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    if "s3" in previous and not _becomes_free(previous["s3"]):
        raise StackError(
            f"port {previous['s3']}, where bucket configurations expect S3, is in use by another program;"
            f" stop it, or change the port in {file} and in the endpoint of every bucket configuration"
        )
    kept = {name: port for name, port in previous.items() if name in NAMES and is_free(port)}
    missing = [name for name in NAMES if name not in kept]
    ports = kept | dict(zip(missing, free_ports(len(missing), taken=list(kept.values())), strict=True))
    if ports != previous:
        atomic.write(file, (json.dumps(ports, indent=2) + "\n").encode(), mode=0o644)
    return ports


def free_ports(count: int, taken: Sequence[int] = ()) -> list[int]:
    """Return different ports of 127.0.0.1 that are free at the moment and not among `taken`."""
    candidates = (port for port in random.sample(_RANGE, len(_RANGE)) if port not in taken and is_free(port))
    return [next(candidates) for _ in range(count)]


def is_free(port: int) -> bool:
    """Return whether no program listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _becomes_free(port: int) -> bool:
    """Wait for a port to become free, and return whether it did."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
