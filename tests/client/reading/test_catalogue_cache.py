"""The cached catalogue: when the server is asked, by how many threads, and which of two concurrent results counts."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from datas3t.archive import names
from datas3t.client import Unavailable
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import catalogue_cache
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.catalogue_cache import CatalogueCache

ALL_KEYS = (0, names.MAX_KEY)
Load = Callable[[int, int], Catalogue]


class FakeServer:
    """Takes the place of the server: records the keys it is asked for, and responds by calling `respond`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        self.respond: Load = expiring(1000, 2000)
        patch.setattr(catalogue_cache, "load", self._load)

    def cache(self) -> CatalogueCache:
        """Return an empty cache that asks this server."""
        return CatalogueCache(type("Session", (), {"connection": None})(), "any")

    def _load(self, _: object, name: str, first: int, last: int) -> Catalogue:
        self.spans.append((first, last))
        return self.respond(first, last)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return FakeServer(monkeypatch)


def expiring(stale_in: float, ends_in: float, age: float = 0) -> Load:
    """Return a response with URLs that become stale, and expire, after so many seconds.

    Args:
        stale_in: Seconds from now until the URLs are stale.
        ends_in: Seconds from now until they expire.
        age: How many seconds ago they were signed.
    """

    def respond(first: int, last: int) -> Catalogue:
        now, signed_at = time.time(), time.monotonic() - age
        return Catalogue([], Lifetime(signed_at, now + stale_in, now + ends_in), time.monotonic(), first, last)

    return respond


def unavailable(first: int, last: int) -> Catalogue:
    raise Unavailable("the server is down")


def test_urls_are_used_until_they_expire_while_the_server_is_unavailable(server: FakeServer) -> None:
    cache = server.cache()
    server.respond = expiring(-1, 1000)
    held = cache.current(3, 3)
    server.respond = unavailable
    assert cache.current(3, 3) is held
    assert cache.current(3, 3) is held
    assert server.spans == [(3, 3)] * 2  # it is not asked again at once
    with pytest.raises(Unavailable):
        cache.refresh()


def test_a_reader_whose_urls_have_expired_waits_for_the_server(server: FakeServer) -> None:
    cache = server.cache()
    server.respond = expiring(-2, -1)
    old = cache.current(3, 3)
    responses = iter([unavailable, unavailable, expiring(1000, 2000)])

    def in_turn(first: int, last: int) -> Catalogue:
        return next(responses)(first, last)

    server.respond = in_turn
    assert cache.current(3, 3).requested_at > old.requested_at
    assert server.spans == [(3, 3)] * 4


def test_threads_that_need_a_renewal_at_the_same_time_ask_once(server: FakeServer) -> None:
    cache = server.cache()
    server.respond = expiring(-1, 1000)
    cache.current()
    all_started = threading.Event()

    def slowly(first: int, last: int) -> Catalogue:
        all_started.wait(10)
        return expiring(1000, 2000)(first, last)

    server.respond = slowly
    threads = [threading.Thread(target=cache.current) for _ in range(16)]
    for thread in threads:
        thread.start()
    all_started.set()
    for thread in threads:
        thread.join()
    assert server.spans == [ALL_KEYS] * 2


def test_a_slow_response_requested_before_a_refresh_does_not_replace_its_result(server: FakeServer) -> None:
    cache = server.cache()
    cache.current()
    old_requested, may_respond = threading.Event(), threading.Event()

    def slow(first: int, last: int) -> Catalogue:
        result = expiring(1000, 2000)(first, last)
        old_requested.set()
        may_respond.wait(10)
        return result

    server.respond = slow
    moment = time.monotonic()
    renewal = threading.Thread(target=cache.requested_after, args=(moment, *ALL_KEYS))
    renewal.start()
    old_requested.wait(10)
    server.respond = expiring(1000, 2000)
    refreshed = threading.Thread(target=cache.refresh)
    begun = time.monotonic()
    refreshed.start()
    may_respond.set()
    renewal.join()
    refreshed.join()
    assert cache.current().requested_at > begun
    assert len(server.spans) == 3


def test_urls_that_are_refused_together_are_renewed_once(server: FakeServer) -> None:
    cache = server.cache()
    server.respond = expiring(1000, 2000, age=5)
    refused = cache.current()
    server.respond = expiring(1000, 2000)
    renewed = cache.renewed_after_refusal(refused)
    assert renewed is not refused
    assert cache.renewed_after_refusal(refused) is renewed
    assert len(server.spans) == 2


def test_a_catalogue_requested_after_a_moment_is_reused(server: FakeServer) -> None:
    cache = server.cache()
    held = cache.current()
    newer = cache.requested_after(held.requested_at, *ALL_KEYS)
    assert newer is not held
    assert cache.requested_after(held.requested_at, *ALL_KEYS) is newer
    assert len(server.spans) == 2


def test_a_child_forked_while_another_thread_asks_can_ask_too(server: FakeServer) -> None:
    cache = server.cache()
    with cache._lock:
        child = os.fork()
        if not child:
            cache.current()
            os._exit(0 if server.spans == [ALL_KEYS] else 1)
    assert os.waitpid(child, 0)[1] == 0
