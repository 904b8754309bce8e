"""The multis that an engine keeps between calls, and the number of connections that its calls have together.

A forked child starts with an empty pool: a connection that two processes use would mix up their responses.
"""

import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import pycurl

from datas3t.transport.handle import Options
from datas3t.transport.messages import TransferError
from datas3t.transport.multi import Multi
from datas3t.transport.policy import Meaning

_MAX_IDLE = 16  # multis kept per engine; a call that ends after so many others closes its own
_MAX_CONNECTIONS = 512  # per engine by default; half of 1,024, the usual limit of file descriptors
_pools: "WeakSet[Pool]" = WeakSet()


class Pool:
    """Lends multis to calls, one for each. Safe for threads."""

    # There is no lock. A generator that is garbage collected puts its multi back at any moment, even while the same
    # thread is in one of these methods; with a lock, that would be a deadlock. List methods are atomic.

    def __init__(self, options: Options, connections: int | None) -> None:
        self._options = options
        self._connections = connections or _default_connections()
        self._idle: list[Multi] = []  # the one that was used last is the last
        # With the connections that each may have. If a generator that has borrowed a multi is garbage collected, this
        # keeps the multi from being finalized with it.
        self._lent: dict[Multi, int] = {}
        _pools.add(self)

    @contextmanager
    def lend(self, parallelism: int) -> Iterator[tuple[Multi, int]]:
        """Lend a multi to a call that sends up to `parallelism` requests at a time, and yield how many it may send.

        Raises TransferError if libcurl itself fails in the call.
        """
        try:
            multi = self._take()
            try:
                yield multi, self._reserve(multi, parallelism)
            finally:
                self._lent.pop(multi, None)
                self._put_back(multi)
        except pycurl.error as error:  # for example, there is no file descriptor left
            raise TransferError(f"the transfer cannot continue: {error.args[-1]}", meaning=Meaning.TEMPORARY) from None

    def close_idle(self) -> None:
        """Close the connections that no call is using."""
        self._close_idle_while(lambda: True)

    def forget(self) -> None:
        """Drop everything, in a forked child, without a byte to the connections, which belong to the parent."""
        for multi in self._idle:
            _never_free(multi)
        self._idle = []
        self._lent = {}

    def _take(self) -> Multi:
        try:
            return self._idle.pop()
        except IndexError:
            return Multi(self._options)

    def _reserve(self, multi: Multi, wanted: int) -> int:
        """Reserve up to `wanted` connections for a call, and return how many it gets.

        It gets at most those that the multi already has, or half of the free ones, because other calls may follow.
        """
        left = self._connections - self._reserved()
        width = max(1, min(wanted, max(left // 2, min(multi.connections, left))))
        self._lent[multi] = max(width, multi.connections)
        self._close_idle_while(lambda: self._unused() < 0)
        return width

    def _put_back(self, multi: Multi) -> None:
        # A child that was forked within a call leaves the call here. Its multi is the parent's.
        if multi.process != os.getpid():
            _never_free(multi)
            return
        if not multi.settled:
            multi.discard()
            return
        multi.abandon()
        if len(self._idle) < _MAX_IDLE and multi.connections <= self._unused():
            self._idle.append(multi)
        else:
            multi.close()

    def _close_idle_while(self, needed: Callable[[], bool]) -> None:
        """Close idle multis, the one that was used longest ago first, as long as needed."""
        while self._idle and needed():
            with suppress(IndexError):  # another thread has taken the last one
                self._idle.pop(0).close()

    def _reserved(self) -> int:
        return sum(list(self._lent.values()))

    def _unused(self) -> int:
        """Return how many connections neither a call nor an idle multi has; negative if there are too many."""
        return self._connections - self._reserved() - sum(multi.connections for multi in list(self._idle))


def _default_connections() -> int:
    """Return how many connections an engine has by default: at most half of the process's file descriptors."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else max(1, min(_MAX_CONNECTIONS, limit // 2))


def _never_free(multi: Multi) -> None:
    """Keep a multi of the parent from being freed, also at exit: that would end the parent's TLS sessions."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(multi))


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
