"""Make fork safe while gRPC is in use: a fork waits for the calls in flight, and the child starts without a channel.

gRPC's own fork handlers work only while no call is in flight; otherwise parent or child may hang. They are disabled
unless an environment variable enables them before grpc is imported, so this module must be imported before grpc.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
# gRPC prints each failed TLS handshake to standard error. What matters of it is in the error of the call.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_MAX_WAIT = 5.0  # seconds that a fork waits for calls; a streaming call may take minutes, and a fork should not


class _Gate:
    """Count the calls in flight, and hold back new ones while a fork waits."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.in_flight = 0
        self.forking = False

    def before_fork(self) -> None:
        self.changed.acquire()
        self.forking = True
        self.changed.wait_for(lambda: not self.in_flight, _MAX_WAIT)

    def after_fork_in_parent(self) -> None:
        self.forking = False
        self.changed.notify_all()
        self.changed.release()

    def after_fork_in_child(self) -> None:
        # The threads that hold the lock or wait for it do not exist in the child: start with a new lock.
        self.__init__()  # type: ignore[misc]


_gate = _Gate()
os.register_at_fork(
    before=_gate.before_fork,
    after_in_parent=_gate.after_fork_in_parent,
    after_in_child=_gate.after_fork_in_child,
)


@contextmanager
def in_flight() -> Iterator[None]:
    """Count the block as a call in flight. It waits for a fork that has begun, and a fork waits for it."""
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
