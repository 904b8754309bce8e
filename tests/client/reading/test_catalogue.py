"""The catalogue of a handle: how often the server is asked for it, and which keys it covers."""

import re
import urllib.request
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from datas3t.archive import names
from datas3t.client._reading.catalogue import Catalogue, SignedDatarange
from tests.client.archives import sample
from tests.client.reading.archive_host import catalogue_of
from tests.client.sites import Site
from tests.support.stack import wait_until

_CALLS = re.compile(r'^datas3t_calls_total\{[^}]*method="datas3t\.v1\.DatarangeService/(\w+)"[^}]*\} ([\d.e+]+)$', re.M)


def calls(site: Site, method: str) -> int:
    """Return how many calls of a method the server has counted."""
    with urllib.request.urlopen(f"{site.client.url}/metrics") as answer:
        page = answer.read().decode()
    return round(sum(float(count) for name, count in _CALLS.findall(page) if name == method))


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


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[Catalogue, set[int]]:
    """Draw a catalogue, and the keys that its dataranges hold."""
    dataranges, keys, first = [], set[int](), 0
    for number, (hole, count) in enumerate(draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), max_size=6))):
        last = first + hole + count - 1
        dataranges.append(SignedDatarange(number, first + hole, last, 2048, 1024, "", "", "", ""))
        keys.update(range(first + hole, last + 1))
        first = last + 1
    return catalogue_of(dataranges), keys


@given(catalogues(), st.integers(0, 90), st.integers(0, 90))
def test_a_catalogue_agrees_with_a_set_of_keys(drawn: tuple[Catalogue, set[int]], one: int, other: int) -> None:
    tested, keys = drawn
    first, last = sorted((one, other))
    span = keys.intersection(range(first, last + 1))
    assert set(tested.keys) == keys
    assert len(tested) == len(keys)
    assert tested.count(first, last) == len(span)
    assert {key for each in tested.overlapping(first, last) for key in range(each.first, each.last + 1)} >= span
    assert all(span.intersection(range(each.first, each.last + 1)) for each in tested.overlapping(first, last))
    for key in range(90):
        holder = tested.holding(key)
        assert (holder is not None) == (key in keys)
        assert holder is None or holder.first <= key <= holder.last


def test_a_catalogue_of_a_span_covers_no_other_keys() -> None:
    of_a_span = catalogue_of([], 10, 20)
    assert of_a_span.covers(10, 20)
    assert of_a_span.covers(15, 15)
    assert not of_a_span.covers(9, 15)
    assert not of_a_span.covers(15, 21)
    assert catalogue_of([]).covers(0, names.MAX_KEY)
