"""Removal of environment variables that would change how libraries connect to the services."""

import contextlib
import os
from collections.abc import Iterator

# Settings of PostgreSQL's clients and of the AWS command line. They are for other databases and stores.
_PREFIXES = ("PG", "AWS_")
_KEPT = ("AWS_CA_BUNDLE",)  # also used for the endpoints of bucket configurations
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@contextlib.contextmanager
def without_shell_variables() -> Iterator[None]:
    """Remove the variables that would change connections to the services, for the duration of the block.

    Child processes inherit the result. Proxies stay set for other hosts, but are not used for loopback.
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
