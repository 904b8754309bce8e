"""The shell's variables that libraries read, and that must not change how the services are reached."""

import contextlib
import os
from collections.abc import Iterator

# Settings of PostgreSQL's clients and of the AWS command line. They are for other databases and stores.
_PREFIXES = ("PG", "AWS_")
_KEPT = ("AWS_CA_BUNDLE",)  # counts for the endpoints of bucket configurations
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@contextlib.contextmanager
def without_the_shell() -> Iterator[None]:
    """Remove, for the duration of the block, the variables that would change connections to the services.

    Child processes inherit what is left. Proxies stay, for other hosts, but none is used for loopback.
    """
    exceptions = {name: os.environ[name] for name in _EXCEPTIONS if name in os.environ}
    listed = next(filter(None, exceptions.values()), "")
    removed = {name: os.environ.pop(name) for name in list(os.environ) if _changes_connections(name)}
    for name in _EXCEPTIONS:
        os.environ[name] = listed if listed.strip() == "*" else ",".join([*filter(None, [listed]), *_LOOPBACK])
    try:
        yield
    finally:
        for name in _EXCEPTIONS:
            os.environ.pop(name, None)
        os.environ.update(removed | exceptions)


def _changes_connections(name: str) -> bool:
    return name.startswith(_PREFIXES) and name not in _KEPT
