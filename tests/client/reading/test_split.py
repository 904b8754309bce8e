"""Splitting keys for parallel readers: each datapoint is in one span, and the spans have about equal sizes."""

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datas3t.archive import names
from datas3t.client import InvalidArgument
from datas3t.client._reading.catalogue import Catalogue, split
from datas3t.client._reading.signed import Columns
from tests.client.archives import sample, tar
from tests.client.reading.archive_host import ArchiveHost, catalogue_of
from tests.client.sites import Site


def catalogue_with(*dataranges: tuple[int, int, int]) -> Catalogue:
    """Return a catalogue of dataranges with these first keys, last keys, and blocks of 512 bytes of each datapoint."""
    columns = Columns()
    for number, (first, last, blocks) in enumerate(dataranges):
        columns.add(number, first, last, blocks * 512 * (last - first + 1), ("", ""), ("", ""))
    return catalogue_of(columns)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Draw a catalogue of dataranges of any size, with and without missing keys between them."""
    sizes = draw(
        st.lists(
            st.tuples(st.integers(0, 20), st.one_of(st.integers(1, 3), st.integers(1, 50)), st.integers(1, 10_000)),
            min_size=1,
            max_size=8,
        )
    )
    lasts = accumulate(hole + count for hole, count, _ in sizes)
    return catalogue_with(
        *((last - count, last - 1, size) for last, (_, count, size) in zip(lasts, sizes, strict=True))
    )


@given(catalogues(), st.integers(1, 20), st.integers(0, 300), st.integers(0, 300))
def test_spans_contain_each_existing_key_once_and_none_is_empty(
    catalogue: Catalogue, parts: int, one: int, other: int
) -> None:
    first, last = sorted((one, other))
    spans = split(catalogue.overlapping(first, last), parts)
    present = [key for key in range(first, last + 1) if catalogue.holding(key)]
    assert len(spans) <= parts
    assert [key for start, stop in spans for key in range(start, stop + 1) if catalogue.holding(key)] == present
    assert all(catalogue.count(*span) > 0 for span in spans)


@example(catalogue_with((0, 0, 53), (1, 5, 13)), 10)  # fewer datapoints than parts
@given(catalogues(), st.integers(1, 20))
def test_spans_have_about_the_same_number_of_bytes(catalogue: Catalogue, parts: int) -> None:
    def size(first: int, last: int) -> float:
        pieces = catalogue.overlapping(first, last)
        return sum((high - low + 1) * (each.entries_end / each.count) for each, low, high in pieces)

    # A span has at least one datapoint, so there cannot be more shares than datapoints.
    everything = list(catalogue.overlapping(0, names.MAX_KEY))
    share = size(0, names.MAX_KEY) / min(parts, catalogue.datapoints)
    for span in split(everything, parts):
        assert size(*span) <= share + max(each.entries_end / each.count for each, _, _ in everything) + 1


def test_the_number_of_parts_must_be_positive(host: ArchiveHost) -> None:
    handle = host.handle(tar({1: b"x"}))
    assert handle.split(5) == [(1, 1)]
    assert handle.split(5, 2, 9) == []
    for wrong in (0, -1):
        with pytest.raises(InvalidArgument, match="parts must be at least 1"):
            handle.split(wrong)
    with pytest.raises(InvalidArgument, match="not a range of keys"):
        handle.split(1, 5, 4)


_PART = """
import sys
from datas3t.client import Client
url, name, number = sys.argv[1:]
with Client(url) as client:
    handle = client.datas3t(name)
    for datapoint in handle.scan(*handle.split(4)[int(number)]):
        print(datapoint.key, datapoint.content.hex())
"""


def test_processes_that_scan_a_span_each_read_all_datapoints_once(site: Site, tmp_path: Path) -> None:
    contents: dict[int, bytes] = {}
    for first, sizes in ((0, [100] * 50), (50, [3000] * 30), (200, [10] * 100)):
        each = sample(tmp_path / f"{first}.tar", first, *sizes)
        site.upload(each)
        contents |= each.contents
    command = [sys.executable, "-c", _PART, site.client.url, site.name]
    readers = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(4)]
    printed = [reader.communicate(timeout=60)[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    assert all(printed), "each span contains datapoints"
    lines = [line.split(" ") for line in "".join(printed).splitlines()]
    assert [(int(key), bytes.fromhex(content)) for key, content in lines] == list(contents.items())
