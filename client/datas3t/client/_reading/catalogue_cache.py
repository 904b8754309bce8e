"""The catalogues that a handle currently uses, each of a span of keys; they are renewed before their URLs expire."""

import itertools
import os
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

from pyroaring import BitMap64

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls import datas3ts
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import impatient, retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue import Catalogue, load_page
from datas3t.client._reading.known import Known, Span
from datas3t.client._reading.signed import SignedDatarange
from datas3t.client.errors import DeadlineExceeded, Unavailable

MAX_SIZE = 64 << 20  # bytes, by default: 300,000 dataranges
_PATIENCE = 120.0  # seconds that a reader waits for a server that is unavailable
_FIRST_PATIENCE = 2.0  # the same for the first call of a handle
_RETRY_SHARE = 4  # after a failed renewal, wait a quarter of the URLs' remaining lifetime before the next
_PAGE = 1000  # dataranges that are listed at a time


class _Held(NamedTuple):
    """Catalogues in key order, of which no two cover the same key, and the first keys that they cover."""

    firsts: list[int]
    catalogues: list[Catalogue]

    def at(self, key: int) -> Catalogue | None:
        """Return the catalogue that covers the key, or None."""
        number = bisect_right(self.firsts, key) - 1
        return self.catalogues[number] if number >= 0 and key <= self.catalogues[number].last else None


class _Failures:
    """The last failure of a thread that had waited for the server in vain, for those that waited for this thread."""

    def __init__(self) -> None:
        self._last: tuple[float, Unavailable | DeadlineExceeded] | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note how the block ends."""
        try:
            yield
        except (Unavailable, DeadlineExceeded) as error:
            self._last = time.monotonic(), error
            raise
        self._last = None

    def share(self, began: float) -> None:
        """Raise the failure if it came after this moment of the monotonic clock, and nothing succeeded since."""
        if (last := self._last) is not None and last[0] > began:
            error = last[1]
            raise type(error)(str(error), reason=error.reason, metadata=error.metadata)


class CatalogueCache:
    """Holds catalogues of the keys that were read last: first only of those keys, then of their neighbours as well.

    Safe to use from many threads and after a fork. One thread at a time asks the server; the others wait for its
    result, also if it is a failure. Another lock is for the keys, of which the response may take minutes.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        max_size: How many bytes the catalogues may take. The one that was loaded last is kept however large it is.
    """

    def __init__(self, session: Session, name: str, max_size: int = MAX_SIZE) -> None:
        self._session = session
        self._name = name
        self._max_size = max_size
        self._held = _Held([], [])
        self._known = Known()
        self._uses = itertools.count(1)
        self._loaded = self._loaded_datapoints = 0  # dataranges that were listed so far, and their datapoints
        self._refreshed_at = 0.0  # by the monotonic clock
        self._failed_at = 0.0  # by the monotonic clock: the last attempt for which the server was unavailable
        self._not_before = 0.0  # by the monotonic clock: no renewal earlier, because the last one failed
        self._failures, self._failures_of_keys = _Failures(), _Failures()
        self._process, self._lock, self._lock_of_keys = os.getpid(), threading.Lock(), threading.Lock()

    def holding(self, key: int) -> SignedDatarange | None:
        """Return the datarange that holds the key, or None."""
        return self.covering(key, key, key).holding(key)

    def covering(self, key: int, first: int, last: int) -> Catalogue:
        """Return a catalogue that covers the key; ask the server only if none is held or it is stale.

        Args:
            key: The key.
            first: The first key that the caller is interested in.
            last: The last one. The first catalogue of all is only of these keys.
        """
        catalogue = self._held.at(key)
        if catalogue is None:
            around = partial(self._span_around, key, first, last)
            catalogue = self._held_or_loaded(key, _any, around, retry=None)
        elif time.time() >= catalogue.lifetime.stale_at:
            old = catalogue
            newer = self._renewal(key, lambda held: held.requested_at > old.requested_at, old.lifetime)
            catalogue = newer or old
        catalogue.used_at = next(self._uses)
        return catalogue

    def overlapping(self, first: int, last: int) -> Iterator[tuple[SignedDatarange, int, int]]:
        """Yield the dataranges that hold keys from `first` to `last`, each with its first and last one of them."""
        while first <= last:
            catalogue = self.covering(first, first, last)
            yield from catalogue.overlapping(first, min(last, catalogue.last))
            first = catalogue.last + 1

    def has(self, key: int) -> bool:
        """Return whether the key exists."""
        if not 0 <= key <= MAX_KEY:
            return False
        known = self._known.has(key)
        return self.covering(key, 0, MAX_KEY).holding(key) is not None if known is None else known

    def keys(self) -> BitMap64:
        """Return all keys that exist. The server is asked once, without URLs. The caller must not change the result."""
        if (keys := self._known.bitmap) is not None:
            return keys
        began = time.monotonic()
        self._renew_locks()
        with self._lock_of_keys:
            while True:
                with self._locked():
                    known, has_begun = self._known, bool(self._held.firsts)
                    if (keys := known.all_keys()) is not None:
                        return keys
                self._failures_of_keys.share(began)
                seconds = _PATIENCE if has_begun else _FIRST_PATIENCE
                with self._failures_of_keys.noted():
                    asked = retry_while_unavailable(
                        lambda: datas3ts.bitmap(self._session.connection, self._name), seconds
                    )
                with self._locked():
                    # What other threads have learned meanwhile stays. After a refresh, this response is too old.
                    if self._known is known and known.all_keys() is None:
                        known.learn_all(asked)

    def renewed(self, old: SignedDatarange, *, refused: bool) -> SignedDatarange | None:
        """Return a datarange with newer URLs, because those of `old` are about to expire, or S3 has `refused` one.

        Returns None if it does not exist any more. While the server is unavailable and the URLs have not expired,
        `old` is returned, unless S3 has refused its URLs.
        """
        if refused:
            catalogue = self._held_or_loaded(old.first, lambda held: not held.lifetime.is_over(refused=True))
        else:
            latest = self._latest(old)
            if latest is not old and not latest.lifetime.is_over():
                return latest
            signed_at = latest.lifetime.signed_at

            def is_newer(held: Catalogue) -> bool:
                return held.lifetime.signed_at > signed_at and not held.lifetime.is_over()

            newer = self._renewal(old.first, is_newer, latest.lifetime)
            if newer is None:
                return latest
            catalogue = newer
        listed = catalogue.with_id(old.id)
        return listed if listed is not None and listed.is_same(old) else None

    def _latest(self, old: SignedDatarange) -> SignedDatarange:
        """Return the datarange with the URLs that are held, if they are newer; they may be about to expire as well."""
        held = self._held.at(old.first)
        listed = held.with_id(old.id) if held is not None else None
        is_newer = listed is not None and listed.lifetime.signed_at > old.lifetime.signed_at and listed.is_same(old)
        return listed if listed is not None and is_newer else old

    def is_gone(self, datarange: SignedDatarange, moment: float) -> bool:
        """Return whether the server, asked after this moment of the monotonic clock, lists the datarange no more."""
        listed = self._held_or_loaded(datarange.first, lambda held: held.requested_at > moment).with_id(datarange.id)
        return listed is None or not listed.is_same(datarange)

    def refresh(self) -> None:
        """Forget which keys exist, and ask the server again."""
        moment = time.monotonic()
        with self._locked():
            if self._refreshed_at > moment:  # by another thread, while this one waited
                return
            loaded = self._load(0, MAX_KEY)
            self._held, self._known, self._refreshed_at = _Held([], []), Known(), loaded.requested_at
            self._install(loaded)

    def _renewal(self, key: int, is_newer: Callable[[Catalogue], bool], lifetime: Lifetime) -> Catalogue | None:
        """Return a newer catalogue that covers the key, because URLs with this lifetime are about to expire.

        Returns None while the server is unavailable and they have not expired.
        """
        if time.time() >= lifetime.ends_at:
            return self._held_or_loaded(key, is_newer)
        began = time.monotonic()
        if began < self._not_before:
            return None

        def will_do(held: Catalogue) -> bool:
            if not is_newer(held) and self._failed_at > began:
                raise Unavailable("the server was unavailable for another thread, while this one waited")
            return is_newer(held)

        try:
            with impatient():
                return self._held_or_loaded(key, will_do, retry=False)
        except (Unavailable, DeadlineExceeded):
            left = lifetime.ends_at - time.time()
            if left <= 0:
                return self._held_or_loaded(key, is_newer)
            self._not_before = time.monotonic() + left / _RETRY_SHARE
            return None

    def _held_or_loaded(
        self,
        key: int,
        is_usable: Callable[[Catalogue], bool],
        wanted: Callable[[], Span] | None = None,
        *,
        retry: bool | None = True,
    ) -> Catalogue:
        """Return the held catalogue that covers the key if it is usable; otherwise load one.

        Args:
            key: The key.
            is_usable: Whether a catalogue will do.
            wanted: Returns the keys to load. None: those of the catalogue that is held.
            retry: Whether to wait for a server that is unavailable: a reader in the middle of its work should survive
                the restart of a server. None: unless this is the first work of the handle.
        """
        began = time.monotonic()
        with self._locked():
            is_patient = retry is not False
            if retry is None:
                retry = bool(self._held.firsts)
            held = self._held.at(key)
            if held is not None and is_usable(held):
                return held
            if wanted is None and held is not None:
                first, last = held.first, held.last
            else:
                first, last = wanted() if wanted else self._span_around(key, key, key)
            if is_patient:  # another thread may have waited for the server until now
                self._failures.share(began)
            with self._failures.noted() if is_patient else nullcontext():
                loaded = self._installed(first, last, retry=retry)
            # The server lists a limited number of dataranges at a time, so these may end before the key.
            return loaded if key <= loaded.last else self._installed(key, last, retry=retry)

    def _installed(self, first: int, last: int, *, retry: bool) -> Catalogue:
        """Load a catalogue that begins with the key `first` and goes no further than `last`, and hold it."""
        ask = partial(self._load, first, last)
        loaded = retry_while_unavailable(ask, _PATIENCE) if retry else ask()
        self._install(loaded)
        return loaded

    def _load(self, first: int, last: int) -> Catalogue:
        try:
            return load_page(self._session.connection, self._name, first, last, _PAGE, random.random())  # noqa: S311
        except (Unavailable, DeadlineExceeded):
            self._failed_at = time.monotonic()
            raise

    def _install(self, loaded: Catalogue) -> None:
        """Hold a catalogue instead of those that cover the same keys, and drop those that do not fit any more."""
        held = self._held.catalogues
        before = [each for each in held if each.last < loaded.first]
        after = [each for each in held if each.first > loaded.last]
        # Its outermost dataranges may hold keys beyond those that were asked for, which need not be asked for again.
        loaded.extend(before[-1].last + 1 if before else 0, after[0].first - 1 if after else MAX_KEY)
        if self._known.has_any(loaded.first, loaded.last):
            loaded.hide(self._known)
        self._known.learn(loaded.first, loaded.last, loaded.shown())
        self._loaded += len(loaded)
        self._loaded_datapoints += loaded.datapoints
        loaded.used_at = next(self._uses)
        kept = [*before, loaded, *after]
        size = self._known.size + sum(each.size for each in kept)
        for each in sorted(kept, key=lambda each: each.used_at):
            if size > self._max_size and each is not loaded:
                size -= each.size
                kept.remove(each)
        self._held = _Held([each.first for each in kept], kept)

    def _span_around(self, key: int, first: int, last: int) -> Span:
        """Return the keys to load because of this key, about which nothing is held, given those that are wanted."""
        held = self._held
        if not held.firsts:
            return first, last
        # Catalogues of a few dataranges are loaded again with their neighbours, so that few large ones remain.
        at = bisect_right(held.firsts, key)
        before = next((each for each in reversed(held.catalogues[:at]) if len(each) >= _PAGE // 10), None)
        after = next((each for each in held.catalogues[at:] if len(each) >= _PAGE // 10), None)
        low, high = before.last + 1 if before else 0, after.first - 1 if after else MAX_KEY
        # Begin with the lowest of these keys if the page is likely to reach the key, otherwise a quarter of it before.
        page = _PAGE * self._loaded_datapoints // max(self._loaded, 1)
        return max(low, key - page // 4) if key - low > page * 9 // 10 > 0 else low, high

    def _locked(self) -> threading.Lock:
        self._renew_locks()
        return self._lock

    def _renew_locks(self) -> None:
        if self._process != os.getpid():  # another thread may have held a lock when this process was forked
            self._process, self._lock, self._lock_of_keys = os.getpid(), threading.Lock(), threading.Lock()


def _any(_: Catalogue) -> bool:
    return True
