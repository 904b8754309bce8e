"""Look-ups of host names for boto3, which end with the call that needs them. The resolver itself has no time limit."""

import socket
import threading

from datas3t.server.call import current

_SECONDS = 5.0  # as long as a connection may take
_MAX_PENDING = 32  # look-ups at a time, each with a thread that no one can end; further ones fail

_pending = threading.BoundedSemaphore(_MAX_PENDING)


class LookupTimeoutError(OSError):
    """The resolver does not answer."""


class _Lookup:
    """One look-up, in a thread of its own, which may outlive the call."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.done = threading.Event()
        self.addresses: list[str] = []
        self.error: OSError | UnicodeError | None = None

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except (OSError, UnicodeError) as error:
            self.error = error
        finally:
            _pending.release()
            self.done.set()


def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which to try them.

    Raises:
        OSError: The host has no address, or the resolver does not answer within the time of a connection, or before
            the current call ends.
    """
    call = current()
    if not _pending.acquire(blocking=False):
        raise LookupTimeoutError(f"too many look-ups wait for the resolver, that of {host} is not made")
    lookup = _Lookup(host.strip("[]"), port)
    threading.Thread(target=lookup.run, name="look-up", daemon=True).start()
    left = call.remaining()
    with call.interruptible(lookup.done.set):
        lookup.done.wait(_SECONDS if left is None else min(_SECONDS, left))
    if isinstance(lookup.error, OSError):
        raise lookup.error
    if not lookup.addresses:
        raise LookupTimeoutError(f"the resolver does not answer for {host}")
    return lookup.addresses
