"""The catalogue of a datas3t that a handle uses now, renewed before its URLs end."""

import math
import os
import threading
import time
from functools import partial

from datas3t.archive import names
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue import Catalogue, load
from datas3t.client.errors import DeadlineExceeded, Unavailable

_SHARE = 4  # of the time that is left to URLs: until then nobody asks again a server that was away


class Leases:
    """First the catalogue of the keys that are asked for, and of all once there are others. One thread asks at a time,
    and the others wait for its answer."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._catalogue: Catalogue | None = None
        self._not_before = 0.0
        self._process, self._lock = os.getpid(), threading.Lock()

    def current(self, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
        """A catalogue with these keys, asked for where there is none yet or its URLs near their end."""
        held = self._catalogue
        if held is None:
            return self._newer(-math.inf, (first, last), (first, last), patient=False)
        if not held.covers(first, last):
            return self._newer(-math.inf, (first, last), (0, names.MAX_KEY))
        return held if time.time() < held.stale_at else self.fresher(held)

    def fresher(self, old: Catalogue) -> Catalogue:
        """One in place of `old`, which nears its end: it itself, as long as it lasts, while the server is away."""
        span, lasts = (old.first, old.last), time.time() < old.ends_at
        if lasts and time.monotonic() < self._not_before:
            return old
        try:
            return self._newer(old.asked_at, span, span, patient=not lasts)
        except (Unavailable, DeadlineExceeded):
            left = old.ends_at - time.time()
            if left <= 0:
                return self._newer(old.asked_at, span, span)
            self._not_before = time.monotonic() + left / _SHARE
            return old

    def since(self, moment: float, first: int, last: int) -> Catalogue:
        """One with these keys that was asked for after this moment of the monotonic clock."""
        return self._newer(moment, (first, last), (first, last))

    def refresh(self) -> None:
        """Asks for everything anew."""
        everything = (0, names.MAX_KEY)
        self._newer(time.monotonic(), everything, everything, patient=False)

    def _newer(self, than: float, need: tuple[int, int], ask: tuple[int, int], *, patient: bool = True) -> Catalogue:
        """One asked for later than that, with the keys that are needed. Who reads already is patient: it rather waits
        for a server that is started again than gives up."""
        if self._process != os.getpid():  # somebody may have held the lock when this process was forked
            self._process, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            held = self._catalogue
            if held is not None and held.asked_at > than and held.covers(*need):
                return held
            ask_now = partial(self._ask, *ask)
            self._catalogue = loaded = retry_while_unavailable(ask_now) if patient else ask_now()
            return loaded

    def _ask(self, first: int, last: int) -> Catalogue:
        return load(self._session.connection, self._name, first, last)
