"""The catalogue that a handle currently uses; it is renewed before its URLs expire."""

import os
import threading
import time
from collections.abc import Callable
from functools import partial

from datas3t.archive import names
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue import Catalogue, load
from datas3t.client.errors import DeadlineExceeded, Unavailable

_ALL_KEYS = (0, names.MAX_KEY)
_RETRY_SHARE = 4  # after a failed renewal, wait a quarter of the URLs' remaining lifetime before the next


class CatalogueCache:
    """Holds one catalogue: first only of the keys that are read, then, once others are read, of all keys.

    Safe to use from many threads and after a fork. One thread at a time asks the server; the others wait for its
    result.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._catalogue: Catalogue | None = None
        self._not_before = 0.0  # by the monotonic clock: no renewal earlier, because the last one failed
        self._process, self._lock = os.getpid(), threading.Lock()

    def current(self, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
        """Return a catalogue that covers `first` to `last`; ask the server only if none is held or it is stale."""
        held, span = self._catalogue, (first, last)
        if held is None:
            return self._held_or_loaded(_any, span, span, retry=False)
        if not held.covers(first, last):
            return self._held_or_loaded(_any, span, _ALL_KEYS)
        return held if time.time() < held.lifetime.stale_at else self.renewed(held)

    def renewed(self, old: Catalogue) -> Catalogue:
        """Return a newer catalogue of the same keys, because the URLs of `old` are about to expire.

        While the server is unavailable and they have not expired, return `old`.
        """

        def is_newer(held: Catalogue) -> bool:
            return held.requested_at > old.requested_at

        span, is_usable = (old.first, old.last), time.time() < old.lifetime.ends_at
        if is_usable and time.monotonic() < self._not_before:
            return old
        try:
            return self._held_or_loaded(is_newer, span, span, retry=not is_usable)
        except (Unavailable, DeadlineExceeded):
            left = old.lifetime.ends_at - time.time()
            if left <= 0:
                return self._held_or_loaded(is_newer, span, span)
            self._not_before = time.monotonic() + left / _RETRY_SHARE
            return old

    def renewed_after_refusal(self, old: Catalogue) -> Catalogue:
        """Return a newer catalogue of the same keys, because S3 refused a URL of `old`."""
        span = (old.first, old.last)
        return self._held_or_loaded(lambda held: not held.lifetime.is_over(refused=True), span, span)

    def requested_after(self, moment: float, first: int, last: int) -> Catalogue:
        """Return a catalogue of these keys that was requested after this moment of the monotonic clock."""
        return self._held_or_loaded(lambda held: held.requested_at > moment, (first, last), (first, last))

    def refresh(self) -> None:
        """Load a new catalogue of all keys."""
        moment = time.monotonic()
        self._held_or_loaded(lambda held: held.requested_at > moment, _ALL_KEYS, _ALL_KEYS, retry=False)

    def _held_or_loaded(
        self,
        is_usable: Callable[[Catalogue], bool],
        needed: tuple[int, int],
        wanted: tuple[int, int],
        *,
        retry: bool = True,
    ) -> Catalogue:
        """Return the held catalogue if it is usable and covers the keys `needed`; otherwise load the keys `wanted`.

        With `retry`, wait for a server that is unavailable: a reader in the middle of its work should survive the
        restart of a server.
        """
        if self._process != os.getpid():  # another thread may have held the lock when this process was forked
            self._process, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            held = self._catalogue
            if held is not None and held.covers(*needed) and is_usable(held):
                return held
            ask = partial(self._load, *wanted)
            self._catalogue = loaded = retry_while_unavailable(ask) if retry else ask()
            return loaded

    def _load(self, first: int, last: int) -> Catalogue:
        return load(self._session.connection, self._name, first, last)


def _any(_: Catalogue) -> bool:
    return True
