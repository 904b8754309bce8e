"""The catalogue of a handle: how often the server is asked for it, and which keys it covers."""

import re
import tracemalloc
import urllib.request
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from datas3t import v1
from datas3t.client import DatapointNotFound
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._reading import catalogue_cache
from datas3t.client._reading.known import Known
from datas3t.client._reading.signed import Columns, SignedDatarange
from tests.client.archives import sample
from tests.client.reading.archive_host import catalogue_of
from tests.client.sites import Site
from tests.support.stack import wait_until

_CALLS = re.compile(r'^datas3t_calls_total\{[^}]*method="datas3t\.v1\.(\w+)Service/(\w+)"[^}]*\} ([\d.e+]+)$', re.M)


def calls(site: Site, method: str, service: str = "Datarange") -> int:
    """Return how many calls of a method the server has counted."""
    with urllib.request.urlopen(f"{site.client.url}/metrics") as answer:
        page = answer.read().decode()
    return round(sum(float(count) for *name, count in _CALLS.findall(page) if name == [service, method]))


class Counting:
    """Counts the calls of PresignDataranges since it was created."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._listed = calls(site, "ListDataranges")
        self._settle()
        self._before = calls(site, "PresignDataranges")

    def count(self) -> int:
        """Return the number of calls."""
        self._settle()
        return calls(self._site, "PresignDataranges") - self._before

    def _settle(self) -> None:
        """Wait until the server has counted all calls that it answered.

        It counts a call shortly after answering, in order: once a later call is counted, the earlier ones are too.
        """
        self._site.client.list_dataranges(self._site.name)
        self._listed += 1
        wait_until(lambda: calls(self._site, "ListDataranges") >= self._listed, 10)


def filled(site: Site, folder: Path) -> dict[int, bytes]:
    """Upload eight archives and return the content of each key."""
    contents: dict[int, bytes] = {}
    for first in range(0, 80, 10):
        each = sample(folder / f"{first}.tar", first, *[100] * 10)
        site.upload(each)
        contents |= each.contents
    return contents


def test_the_first_get_asks_for_one_datarange_and_the_next_one_elsewhere_for_all(site: Site, tmp_path: Path) -> None:
    contents = filled(site, tmp_path)
    counting, handle = Counting(site), site.client.datas3t(site.name)
    assert counting.count() == 0
    assert [handle.get(key) for key in (33, 33, 30, 39)] == [contents[key] for key in (33, 33, 30, 39)]
    assert counting.count() == 1, "one datarange is enough"
    assert handle.get(71) == contents[71]
    assert counting.count() == 2, "now the catalogue has all dataranges"
    assert [handle.get(key) for key in contents] == list(contents.values())
    assert handle.get_many(contents) == list(contents.values())
    assert [each.content for each in handle.scan()] == list(contents.values())
    assert handle.keys == BitMap64(contents)
    assert handle.split(3)
    assert counting.count() == 2


def test_reading_everything_asks_once(site: Site, tmp_path: Path) -> None:
    contents = filled(site, tmp_path)
    counting, handle = Counting(site), site.client.datas3t(site.name)
    assert handle.get_many([0, 75]) == [contents[0], contents[75]]
    assert handle.get(40) == contents[40]
    assert counting.count() == 1
    another = site.client.datas3t(site.name)
    assert [each.content for each in another.scan()] == list(contents.values())
    assert another.get(7) == contents[7]
    assert counting.count() == 2


def test_a_missing_key_is_asked_for_once(site: Site, tmp_path: Path) -> None:
    filled(site, tmp_path)
    counting, handle = Counting(site), site.client.datas3t(site.name)
    assert [key in handle for key in (85, 79, 80, 1 << 62, 0)] == [False, True, False, False, True]
    assert counting.count() == 1


def dataranges_with(*spans: tuple[int, int]) -> Columns:
    """Return dataranges with these first and last keys."""
    columns = Columns()
    for number, (first, last) in enumerate(spans):
        columns.add(number, first, last, 1024, ("", ""), ("", ""))
    return columns


SPANS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), max_size=6).map(
    lambda sizes: [
        (end - count, end - 1)
        for end, (_, count) in zip(accumulate(hole + count for hole, count in sizes), sizes, strict=True)
    ]
)


@given(SPANS, st.integers(0, 90), st.integers(0, 90), st.sets(st.integers(0, 90)))
def test_a_catalogue_agrees_with_a_set_of_keys(
    spans: list[tuple[int, int]], one: int, other: int, hidden: set[int]
) -> None:
    tested, keys = (
        catalogue_of(dataranges_with(*spans)),
        {key for first, last in spans for key in range(first, last + 1)},
    )
    for shown in (keys, keys - hidden):
        first, last = sorted((one, other))
        span = shown.intersection(range(first, last + 1))
        assert tested.datapoints == len(shown)
        assert tested.count(first, last) == len(span)
        pieces = list(tested.overlapping(first, last))
        assert [key for _, low, high in pieces for key in range(low, high + 1)] == sorted(span)
        assert all(each.first <= low <= high <= each.last for each, low, high in pieces)
        for key in range(90):
            holder = tested.holding(key)
            assert (holder is not None) == (key in shown)
            assert holder is None or holder.first <= key <= holder.last
        known = Known()
        for key in hidden:
            known.learn(key, key, [])
        tested.hide(known)


def test_the_server_is_asked_by_pages_around_the_keys_that_are_read(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_cache, "_PAGE", 2)
    contents = filled(site, tmp_path)
    counting, handle = Counting(site), site.client.datas3t(site.name)
    assert handle.get(55) == contents[55]
    assert handle.get(5) == contents[5]
    assert counting.count() == 2
    assert handle.get(15) == contents[15], "the page of key 5 has two dataranges"
    assert counting.count() == 2
    assert handle.get_many([6, 16, 44, 54]) == [contents[key] for key in (6, 16, 44, 54)]
    assert [each.content for each in handle.scan()] == list(contents.values())
    before = counting.count()
    assert before <= 6
    assert handle.get_many(contents) == list(contents.values())
    assert handle.split(2) == [(0, 39), (40, 79)]
    with pytest.raises(DatapointNotFound, match="no datapoint 80"):
        handle.get_many([0, 79, 80])
    assert counting.count() <= before + 1


def test_keys_and_length_take_one_call(site: Site, tmp_path: Path) -> None:
    contents = filled(site, tmp_path)
    counting, handle = Counting(site), site.client.datas3t(site.name)
    bitmaps = calls(site, "GetDatapointsBitmap", "Datas3t")
    assert len(handle) == len(contents)
    assert handle.keys == BitMap64(contents)
    assert 79 in handle
    assert 80 not in handle
    wait_until(lambda: calls(site, "GetDatapointsBitmap", "Datas3t") > bitmaps, 10)
    assert (counting.count(), calls(site, "GetDatapointsBitmap", "Datas3t")) == (0, bitmaps + 1)


def test_a_handle_says_the_same_until_it_is_refreshed_however_much_it_forgets(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_cache, "_PAGE", 2)
    contents = filled(site, tmp_path)
    site.client.delete_dataranges(site.name, 20, 29)
    handle, whole = (site.client.datas3t(site.name, max_catalogue=0) for _ in range(2))
    remaining = {key: content for key, content in contents.items() if not 20 <= key <= 29}
    assert [each.key for each in handle.scan()] == list(remaining)
    assert len(whole) == len(remaining)
    later = sample(tmp_path / "later.tar", 15, *[100] * 20)
    site.client.delete_dataranges(site.name, 10, 19)
    site.client.delete_dataranges(site.name, 30, 39)
    site.upload(later)
    for each in (handle, whole):
        for key in (20, 24, 29):
            assert key not in each
            with pytest.raises(DatapointNotFound):
                each.get(key)
        with pytest.raises(DatapointNotFound, match="no datapoint 25"):
            each.get_many([15, 25, 34])
        shown = {
            key: later.contents.get(key, contents.get(key))
            for key in remaining
            if not (10 <= key <= 14 or 35 <= key <= 39)
        }
        assert {found.key: found.content for found in each.scan()} == shown
        assert len(each) == len(shown)
        assert each.keys == BitMap64(shown)
        each.refresh()
        assert each.get(25) == later.contents[25]
        assert len(each) == len(shown) + 10


LISTED = st.tuples(st.integers(1, 5), st.tuples(st.text(max_size=40), st.text(max_size=5)), st.booleans())


@given(st.data())
def test_columns_are_the_rows_that_the_server_listed(data: st.DataObject) -> None:
    expected: dict[int, tuple[object, ...]] = {}
    columns, number = Columns(), 0
    for start in data.draw(st.lists(st.integers(0, 40), max_size=4)):
        page, first = v1.PresignDatarangesResponse(), start
        before, expected = expected, {key: row for key, row in expected.items() if int(str(row[1])) < start}
        page.columns.url_prefix, page.columns.url_query = f"http://s3/{number}/", f"q={number}"
        for count, etags, usual in data.draw(st.lists(LISTED, max_size=5)):
            number, last = number + 1, first + count - 1
            signatures = [bytes([number] * 32), bytes([number + 100] * 32)]
            if usual:
                listed = page.columns
                listed.datarange_ids.append(number)
                listed.first_keys.append(first)
                listed.datapoints.append(count)
                listed.counters.append(number)
                listed.size_bytes.append(2048)
                listed.entries_size_bytes.append(number * 512)
                listed.data_etags.append(etags[0])
                listed.index_etags.append(etags[1])
                listed.signatures += b"".join(signatures)
                urls = [
                    f"{listed.url_prefix}{first:020d}-{last:020d}-{number:012d}.{kind}?{listed.url_query}"
                    f"&X-Amz-Signature={signature.hex()}"
                    for kind, signature in zip(("tar", "index"), signatures, strict=True)
                ]
            else:
                urls = [f"http://elsewhere/{number}", f"http://elsewhere/{number}.i"]
                page.dataranges.add(
                    datarange_id=number,
                    min_datapoint_key=first,
                    max_datapoint_key=last,
                    entries_size_bytes=number * 512,
                    data_etag=etags[0],
                    index_etag=etags[1],
                    presigned_data_url=urls[0],
                    presigned_index_url=urls[1],
                )
            expected[first] = (number, last, number * 512, *etags, *urls)
            first = last + 1 + number % 2
        if not page.columns.first_keys and not page.dataranges:
            expected = before
        columns.add_page(page)
    rows = [SignedDatarange(columns, row, Lifetime(0, 0, 0)) for row in range(len(columns))]
    found = {each.first: (each.id, each.last, each.entries_end, *_etags_and_urls(each)) for each in rows}
    assert found == expected
    assert list(found) == sorted(found)


def _etags_and_urls(datarange: SignedDatarange) -> tuple[str, ...]:
    return datarange.data_etag, datarange.index_etag, datarange.data_url, datarange.index_url


def test_a_datarange_takes_at_most_200_bytes() -> None:
    page = v1.PresignDatarangesResponse()
    for number in range(1000):
        page.columns.datarange_ids.append(number)
        page.columns.first_keys.append(10**12 + number * 1000)
        page.columns.datapoints.append(1000)
        page.columns.counters.append(number)
        page.columns.entries_size_bytes.append(1 << 40)
        page.columns.data_etags.append("0123456789abcdef" * 2 + "-12")
        page.columns.index_etags.append("0123456789abcdef" * 2)
    page.columns.signatures = bytes(64 * 1000)
    tracemalloc.start()
    try:
        columns = Columns()
        columns.add_page(page)
        assert tracemalloc.get_traced_memory()[0] < 205 * 1000
        assert 180 * 1000 < columns.size < 200 * 1000
    finally:
        tracemalloc.stop()
