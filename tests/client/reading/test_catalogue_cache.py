"""The cached catalogues: when the server is asked for which keys, what is kept, and what a handle says about keys."""

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from datas3t.archive.names import MAX_KEY
from datas3t.client import Unavailable
from datas3t.client._calls import datas3ts, rpc
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import catalogue_cache
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._reading.known import Known, Spans
from datas3t.client._reading.signed import Columns
from tests.support.stack import wait_until

Dataranges = dict[tuple[int, int], int]  # ids by first and last key
KEYS = range(200)


class FakeServer:
    """Takes the place of the server: records the keys it is asked for, and lists `dataranges`.

    Its URLs become stale after `stale_in` seconds and expire after `ends_in`; they were signed `age` seconds ago.
    `before_responding` is called before each response, and `before_bitmap` before a bitmap.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        self.jitters: list[float] = []
        self.bitmaps = 0
        self.dataranges: Dataranges = {(0, 9): 1}
        self.stale_in, self.ends_in, self.age = 1000.0, 2000.0, 0.0
        self.before_responding: Callable[[], None] = lambda: None
        self.before_bitmap: Callable[[], None] = lambda: None
        patch.setattr(catalogue_cache, "load_page", self._load)
        patch.setattr(datas3ts, "bitmap", self._bitmap)

    def cache(self, max_size: int = 1 << 20) -> CatalogueCache:
        """Return an empty cache that asks this server."""
        return CatalogueCache(type("Session", (), {"connection": None})(), "any", max_size)

    def existing(self) -> set[int]:
        """Return the keys that exist."""
        return {key for first, last in self.dataranges for key in range(first, last + 1)}

    def _load(self, _: object, name: str, first: int, last: int, count: int, jitter: float) -> Catalogue:
        self.spans.append((first, last))
        self.jitters.append(jitter)
        requested_at, columns = time.monotonic(), Columns()
        listed = sorted(span for span in self.dataranges if span[1] >= first and span[0] <= last)
        for span in listed[:count]:
            etag = str(self.dataranges[span])
            columns.add(self.dataranges[span], *span, 1024, ("", ""), (etag, etag))
        if len(listed) > count:
            last = listed[count - 1][1]
        lifetime = Lifetime(time.monotonic() - self.age, time.time() + self.stale_in, time.time() + self.ends_in)
        self.before_responding()
        return Catalogue(columns, lifetime, requested_at, first, last)

    def _bitmap(self, _: object, name: str) -> BitMap64:
        self.bitmaps += 1
        keys = BitMap64(self.existing())
        self.before_bitmap()
        return keys


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return FakeServer(monkeypatch)


class CountingLock:
    """A lock that counts the threads that want it or have wanted it."""

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.wanted.append(threading.get_ident())
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def void(_: object) -> None:
    pass


def is_unavailable() -> None:
    raise Unavailable("the server is down")


def test_urls_are_used_until_they_expire_while_the_server_is_unavailable(server: FakeServer) -> None:
    cache = server.cache()
    server.stale_in = -1
    held = cache.covering(3, 3, 3)
    server.before_responding = is_unavailable
    assert cache.covering(3, 3, 3) is held
    datarange = cache.holding(3)
    assert datarange is not None
    assert cache.renewed(datarange, refused=False) is datarange
    assert server.spans == [(3, 3), (0, 9)]  # it is not asked again at once
    with pytest.raises(Unavailable):
        cache.refresh()
    assert cache.covering(3, 3, 3) is held


def test_a_reader_whose_urls_have_expired_waits_for_the_server(server: FakeServer) -> None:
    cache = server.cache()
    server.stale_in, server.ends_in = -2, -1
    old = cache.covering(3, 3, 3)
    failures = iter([is_unavailable, is_unavailable])

    def in_turn() -> None:
        next(failures, lambda: None)()

    server.before_responding = in_turn
    server.stale_in, server.ends_in = 1000, 2000
    assert cache.covering(3, 3, 3).requested_at > old.requested_at
    assert server.spans == [(3, 3), (0, 9), (0, 9), (0, 9)]


def test_threads_that_need_a_renewal_at_the_same_time_ask_once(server: FakeServer) -> None:
    cache = server.cache()
    server.stale_in = -1
    cache.covering(0, 0, MAX_KEY)
    server.stale_in, all_started = 1000, threading.Event()
    server.before_responding = lambda: void(all_started.wait(10))
    threads = [threading.Thread(target=cache.covering, args=(key, key, key)) for key in range(16)]
    for thread in threads:
        thread.start()
    all_started.set()
    for thread in threads:
        thread.join()
    assert server.spans == [(0, MAX_KEY)] * 2


def test_threads_with_usable_urls_ask_an_unavailable_server_once(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = server.cache()
    server.stale_in = -1
    held = cache.covering(0, 0, MAX_KEY)
    load, entered, patient = cache._held_or_loaded, list[object](), list[bool]()

    def counted(*args: Any, **kwargs: Any) -> Catalogue:
        entered.append(args)
        return load(*args, **kwargs)

    def is_away() -> None:
        patient.append(rpc._is_patient.get())
        wait_until(lambda: len(entered) == 16, what="all threads want a renewal")
        is_unavailable()

    monkeypatch.setattr(cache, "_held_or_loaded", counted)
    server.before_responding = is_away
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda key: cache.covering(key, key, key), [1] * 16)) == [held] * 16
    assert patient == [False]


@pytest.mark.parametrize("of_keys", [False, True])
def test_threads_that_waited_for_another_in_vain_do_not_wait_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, of_keys: bool
) -> None:
    cache = server.cache()
    server.stale_in, server.ends_in = -2, -1
    cache.covering(0, 0, 9)
    server.dataranges |= {(10, 19): 2}
    lock, waits = CountingLock(), list[float]()
    monkeypatch.setattr(cache, "_lock_of_keys" if of_keys else "_lock", lock)

    def wait(call: Callable[[], Any], seconds: float) -> Any:
        waits.append(seconds)
        wait_until(lambda: len(lock.wanted) >= 8, what="all threads wait")
        return call()

    def read(key: int) -> str:
        with pytest.raises(Unavailable) as raised:
            cache.keys() if of_keys else cache.covering(key, key, key)
        return str(raised.value)

    monkeypatch.setattr(catalogue_cache, "retry_while_unavailable", wait)
    server.before_responding = server.before_bitmap = is_unavailable
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, [0, 15] * 4)) == {"the server is down"}
    assert len(waits) == 1
    server.before_responding = server.before_bitmap = lambda: None
    server.stale_in, server.ends_in = 1000, 2000
    assert [cache.holding(key) is not None for key in (0, 5)] == [True, True]
    assert set(cache.keys()) == set(range(20))


def test_datapoints_are_found_while_another_thread_waits_for_all_keys(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.dataranges = {(0, 9): 1, (20, 29): 2}
    cache, asked, may_respond = server.cache(), threading.Event(), threading.Event()

    def slowly() -> None:
        asked.set()
        assert may_respond.wait(10)

    server.before_bitmap = slowly
    with ThreadPoolExecutor(1) as pool:
        keys = pool.submit(cache.keys)
        assert asked.wait(10)
        server.dataranges = {(0, 9): 1, (30, 39): 3}
        assert cache.holding(25) is None
        may_respond.set()
        assert set(keys.result(10)) == {*range(10), *range(20, 25), *range(26, 30)}, "what was said meanwhile stays"
        asked.clear()
        may_respond.clear()
        monkeypatch.setattr(catalogue_cache, "_PAGE", 1)  # so that a refresh does not learn about all keys
        cache.refresh()
        keys = pool.submit(cache.keys)
        assert asked.wait(10)
        server.dataranges = {(0, 4): 4, (6, 7): 5}
        cache.refresh()
        may_respond.set()
        assert set(keys.result(10)) == {*range(5), 6, 7}, "the response before the refresh is not used"


def test_urls_that_are_over_are_not_renewed_by_others_that_are_over(server: FakeServer) -> None:
    cache = server.cache()
    server.stale_in, server.ends_in, server.age = -20, -10, 100
    oldest = cache.holding(3)
    server.stale_in, server.age = -2, 50
    assert oldest is not None
    cache.refresh()
    server.stale_in, server.ends_in, server.age = 1000, 2000, 0
    renewed = cache.renewed(oldest, refused=False)
    assert renewed is not None
    assert not renewed.lifetime.is_over()
    assert len(server.spans) == 3


def test_of_two_urls_the_one_that_has_not_expired_is_used_while_the_server_is_away(server: FakeServer) -> None:
    cache = server.cache()
    server.stale_in, server.ends_in, server.age = -20, -10, 100
    oldest = cache.holding(3)
    server.stale_in, server.ends_in, server.age = -2, 1000, 50
    assert oldest is not None
    cache.refresh()
    server.before_responding = is_unavailable
    renewed = cache.renewed(oldest, refused=False)
    assert renewed is not None
    assert renewed.lifetime.ends_at > time.time()


def test_a_slow_response_requested_before_a_refresh_does_not_replace_its_result(server: FakeServer) -> None:
    cache = server.cache()
    datarange = cache.holding(3)
    assert datarange is not None
    old_requested, may_respond = threading.Event(), threading.Event()

    def slowly() -> None:
        old_requested.set()
        may_respond.wait(10)

    server.before_responding = slowly
    renewal = threading.Thread(target=cache.is_gone, args=(datarange, time.monotonic()))
    renewal.start()
    old_requested.wait(10)
    refreshed = threading.Thread(target=cache.refresh)
    begun = time.monotonic()
    refreshed.start()
    may_respond.set()
    renewal.join()
    refreshed.join()
    assert cache.covering(3, 3, 3).requested_at > begun
    assert len(server.spans) == 3


def test_urls_that_are_refused_together_are_renewed_once(server: FakeServer) -> None:
    cache = server.cache()
    server.age = 5
    refused = cache.holding(3)
    assert refused is not None
    server.age = 0
    renewed = cache.renewed(refused, refused=True)
    assert renewed is not None
    assert renewed.lifetime.signed_at > refused.lifetime.signed_at
    again = cache.renewed(refused, refused=True)
    assert again is not None
    assert again.lifetime == renewed.lifetime
    assert server.spans == [(3, 3), (0, 9)]


def test_a_listing_requested_after_a_moment_is_reused(server: FakeServer) -> None:
    cache = server.cache()
    datarange = cache.holding(3)
    assert datarange is not None
    moment = time.monotonic()
    assert not cache.is_gone(datarange, moment)
    assert not cache.is_gone(datarange, moment)
    assert len(server.spans) == 2
    server.dataranges = {(0, 9): 2}
    assert cache.is_gone(datarange, time.monotonic())
    assert cache.renewed(datarange, refused=False) is None


def test_a_child_forked_while_another_thread_asks_can_ask_too(server: FakeServer) -> None:
    cache = server.cache()
    with cache._lock:
        child = os.fork()
        if not child:
            cache.covering(3, 3, 3)
            os._exit(0 if server.spans == [(3, 3)] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_renewals_are_spread_over_a_tenth_of_the_lifetime(server: FakeServer) -> None:
    for _ in range(50):
        server.cache().holding(3)
    assert min(server.jitters) < 0.3
    assert max(server.jitters) > 0.7
    lifetime = Lifetime(0, time.time() + 900, time.time() + 1000)
    assert lifetime.earlier(0) == lifetime
    assert lifetime.stale_at - lifetime.earlier(0.5).stale_at == pytest.approx(50, abs=5)
    assert Lifetime(0, math.inf, time.time() - 1).earlier(1).stale_at == math.inf


def test_a_handle_of_many_dataranges_loads_those_around_the_keys_that_it_reads(server: FakeServer) -> None:
    server.dataranges = {(10 * n, 10 * n + 9): n for n in range(100_000)}
    cache = server.cache(max_size=1 << 30)
    assert cache.holding(500_000) is not None
    assert server.spans == [(500_000, 500_000)]
    assert cache.holding(300_000) is not None
    assert server.spans[1:] == [(297_500, MAX_KEY)], "a quarter of a page before the key, the rest after it"
    assert cache.holding(297_500) is not None
    assert cache.holding(307_499) is not None
    assert len(server.spans) == 2
    assert cache.holding(290_000) is not None, "so near that the page reaches the one that is held"
    assert server.spans[2:] == [(287_500, 297_499)]
    for key in range(0, 1_000_000, 77):
        assert cache.holding(key) is not None
    assert len(server.spans) < 110


def test_the_catalogues_that_were_not_used_for_the_longest_time_are_forgotten(server: FakeServer) -> None:
    server.dataranges = {(10 * n, 10 * n + 9): n for n in range(20_000)}
    cache = server.cache(max_size=10 << 20)  # rows with explicit URLs count 1.5 KB each
    for key in range(0, 200_000, 5_000):
        assert cache.holding(key) is not None
        assert cache.holding(0) is not None
        assert sum(each.size for each in cache._held.catalogues) <= 10 << 20
    loads = len(server.spans)
    assert cache.holding(0) is not None
    assert cache.holding(195_000) is not None
    assert len(server.spans) == loads
    assert cache.holding(70_000) is not None
    assert len(server.spans) == loads + 1
    smallest = server.cache(max_size=0)
    assert [smallest.holding(key) is not None for key in (5, 150_000, 5, 199_999, 200_000)] == [True] * 4 + [False]


def test_keys_stay_when_a_datarange_with_several_holes_crosses_from_one_catalogue_to_the_next(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_cache, "_PAGE", 2)
    server.dataranges = {(0, 899): 1, (900, 950): 2, (1001, 1050): 3, (1070, 1100): 4}
    cache, exist = server.cache(), [0, 900, 950, 1001, 1030, 1050, 1070, 1100]
    cache.covering(0, 0, MAX_KEY)
    olds = [cache.holding(key) for key in exist]
    server.dataranges = {(0, 899): 1, (900, 1100): 5}  # the holes were filled, and all was merged
    for old in olds[1:]:
        assert old is not None
        assert cache.is_gone(old, time.monotonic())
        assert [key for key in exist if not cache.has(key)] == []
    assert [key for key in exist if cache.holding(key) is None] == []
    assert [cache.holding(key) for key in (951, 1000, 1051, 1069)] == [None] * 4


def test_no_key_that_exists_seems_to_be_missing_to_a_thread_while_another_learns_about_it() -> None:
    known, seen = Known(), set[bool | None]()

    def look(*_: object) -> Any:
        """Look before each line that the other thread runs."""
        seen.add(known.has(5))
        assert known.bitmap is None or 5 in known.bitmap
        return look

    for change in (
        lambda: known.learn(0, 9, [(0, 9)]),
        lambda: known.learn(10, MAX_KEY, []),
        known.all_keys,
        lambda: known.learn(4, 6, [(5, 6)]),
    ):
        sys.settrace(look)
        try:
            change()
        finally:
            sys.settrace(None)
    assert seen == {None, True}
    known = Known()
    known.learn(0, 9, [(0, 9)])
    sys.settrace(look)
    try:
        known.learn_all(BitMap64([5, 20]))
    finally:
        sys.settrace(None)
    assert seen == {None, True}


@st.composite
def datarange_sets(draw: st.DrawFn) -> list[tuple[int, int]]:
    spans, first = [], 0
    for hole, count in draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=30)):
        if first + hole + count > len(KEYS):
            break
        spans.append((first + hole, first + hole + count - 1))
        first += hole + count
    return spans


STEPS = ["get", "has", "scan", "keys", "change", "refresh"]


@settings(max_examples=100)
@given(st.data())
def test_what_a_handle_says_changes_only_when_datapoints_are_found_to_be_gone(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        server = FakeServer(patch)
        patch.setattr(catalogue_cache, "_PAGE", data.draw(st.integers(1, 12)))
        cache = server.cache(data.draw(st.sampled_from([0, 10_000, 1 << 20])))
        ids = iter(range(1, 100_000))
        server.dataranges = {span: next(ids) for span in data.draw(datarange_sets())}
        said: dict[int, bool] = {}
        # The keys that existed at some moment, and at every moment, since the last refresh.
        ever, always = server.existing(), server.existing()

        def says(key: int, exists: bool) -> None:
            assert not (said.get(key) is False and exists), f"{key} appears without a refresh"
            assert key in ever if exists else key not in always
            said[key] = exists

        for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=25)):
            key = data.draw(st.integers(0, len(KEYS) - 1))
            if step == "get":
                holder = cache.holding(key)
                says(key, holder is not None)
                assert holder is None or holder.first <= key <= holder.last
            elif step == "has":
                says(key, cache.has(key))
            elif step == "scan":
                last = data.draw(st.integers(key, len(KEYS) - 1))
                keys = [each for _, low, high in cache.overlapping(key, last) for each in range(low, high + 1)]
                assert keys == sorted(set(keys))
                for each in range(key, last + 1):
                    says(each, each in set(keys))
            elif step == "keys":
                bitmap = cache.keys()
                for each in KEYS:
                    says(each, each in bitmap)
            elif step == "refresh":
                cache.refresh()
                said.clear()
                ever, always = server.existing(), server.existing()
            else:
                server.dataranges = {span: next(ids) for span in data.draw(datarange_sets())}
                ever |= server.existing()
                always &= server.existing()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.sets(st.integers(0, 72)))), st.booleans())
def test_spans_agree_with_a_set(steps: list[tuple[int, int, set[int]]], at_the_end: bool) -> None:
    shift = MAX_KEY - 72 if at_the_end else 0
    spans, keys = Spans(), set[int]()
    for start, length, chosen in steps:
        first, last = start + shift, start + length + shift
        inside = sorted({key + shift for key in chosen}.intersection(range(first, last + 1)))
        spans.replace(first, last, [(key, key) for key in inside])
        keys = keys.difference(range(first, last + 1)).union(inside)
        found = spans.within(0, MAX_KEY)
        assert [key for one, other in found for key in range(one, other + 1)] == sorted(keys)
        assert all(other + 1 < one for (_, other), (one, _) in pairwise(found))
        assert [key for one, other in spans.within(first, last) for key in range(one, other + 1)] == inside
        assert [key in spans for key in range(shift, shift + 73)] == [key in keys for key in range(shift, shift + 73)]


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_the_visible_keys_are_those_that_were_not_said_to_be_missing(
    present: set[int], one: int, other: int, with_bitmap: bool
) -> None:
    known, (first, last) = Known(), sorted((one, other))
    if with_bitmap:
        known.learn_all(BitMap64(present))
    else:
        known.learn(0, 60, [(key, key) for key in sorted(present)])
    visible = known.visible(first, last)
    assert [key for start, stop in visible for key in range(start, stop + 1)] == sorted(
        present.intersection(range(first, last + 1))
    )
    assert [known.has(key) for key in range(61)] == [key in present for key in range(61)]
