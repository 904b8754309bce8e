"""Make fork safe while gRPC is in use: a fork waits for the calls in flight, and the child starts without a channel.

gRPC's own fork handlers work only while no call is in flight; otherwise parent or child may hang. They are disabled
unless an environment variable enables them before grpc is imported, so this module must be imported before grpc.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
# gRPC prints each failed TLS handshake to standard error. What matters of it is in the error of the call.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_MAX_WAIT = 5.0  # seconds that a fork waits for calls; a streaming call may take minutes, and a fork should not
_POLL = 0.001  # seconds


class _Gate:
    """Count the calls in flight, and hold back new ones while a fork waits.

    A signal handler may raise at any time. What it raises around a fork reaches nobody: Python prints it and goes on.
    So nothing is locked from `before_fork` to `after_fork_in_parent`, and calls are held back for a limited time. A
    plain lock, unlike a Condition, is never left locked by `with`.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.in_flight = 0
        self.held_until: dict[int, float] = {}  # by the monotonic clock, for each thread that forks

    @property
    def is_closed(self) -> bool:
        """Whether a fork holds back new calls."""
        return any(time.monotonic() < until for until in list(self.held_until.values()))

    def before_fork(self) -> None:
        with self.lock:  # no call can begin any more
            self.held_until[threading.get_ident()] = time.monotonic() + 2 * _MAX_WAIT
        _poll(lambda: not self.in_flight, _MAX_WAIT)

    def after_fork_in_parent(self) -> None:
        self.held_until.pop(threading.get_ident(), None)

    def after_fork_in_child(self) -> None:
        # A thread that holds the lock may not exist in the child: start with a new one.
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
    process = os.getpid()
    counted = False
    try:
        while not counted:
            _poll(lambda: not _gate.is_closed, _MAX_WAIT)
            with _gate.lock:
                if not _gate.is_closed:
                    _gate.in_flight += 1
                    counted = True
        yield
    finally:
        if counted and os.getpid() == process:
            with _gate.lock:
                _gate.in_flight -= 1


def _poll(condition: Callable[[], bool], seconds: float) -> None:
    """Return when the condition holds, or after `seconds`. Forks are rare, so nothing is notified."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL)
