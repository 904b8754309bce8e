"""Forking while gRPC is in use: calls in flight are awaited before a fork, and the child starts with no channel.

gRPC's own fork handlers work only while no call is under way; otherwise parent or child may hang. They are off unless
the environment says otherwise before grpc is imported, so this module comes first.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

_LONGEST_WAIT = 5.0  # seconds; a stream may last for minutes, and a fork must not


class _Gate:
    """Counts the calls in flight, and lets no new one begin while a fork waits for them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.in_flight = 0
        self.forking = False

    def before_fork(self) -> None:
        self.changed.acquire()
        self.forking = True
        self.changed.wait_for(lambda: not self.in_flight, _LONGEST_WAIT)

    def in_parent(self) -> None:
        self.forking = False
        self.changed.notify_all()
        self.changed.release()

    def in_child(self) -> None:
        self.__init__()  # type: ignore[misc]  # the threads that held or awaited anything do not exist here


_gate = _Gate()
os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.in_parent, after_in_child=_gate.in_child)


@contextmanager
def in_flight() -> Iterator[None]:
    """Around a call to the server: no fork happens within it, and it does not begin within a fork."""
    with _gate.changed:
        _gate.changed.wait_for(lambda: not _gate.forking)
        _gate.in_flight += 1
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            with _gate.changed:
                _gate.in_flight -= 1
                _gate.changed.notify_all()
