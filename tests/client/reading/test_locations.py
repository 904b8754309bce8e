"""Reading many datapoints: whatever ranges are chosen, the contents are those of the requested keys."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.archive import index
from datas3t.archive.tar import scan
from datas3t.client import ArchiveError
from datas3t.client._reading import index_files, locations, many
from datas3t.client._reading.costs import Costs
from tests.client.archives import sample, tar
from tests.client.reading.archive_host import ArchiveHost, archive_host, set_max_request
from tests.client.sites import Site
from tests.support.tars import DIALECTS, archive

SIZES = st.lists(st.one_of(st.just(0), st.integers(0, 3000), st.integers(1, 3).map((512).__mul__)), min_size=1)
LAYOUTS = st.lists(st.tuples(st.integers(0, 50), SIZES, st.sampled_from(sorted(DIALECTS))), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArchiveHost]:
    with archive_host(tmp_path_factory.mktemp("cache")) as running:
        yield running


def build(layout: list[tuple[int, list[int], str]]) -> tuple[dict[int, bytes], list[bytes]]:
    """Return the content of each key, and the archives that hold them."""
    source, contents, archives, first = random.Random(1), dict[int, bytes](), [], 0
    for hole, sizes, dialect in layout:
        each = dict(enumerate(map(source.randbytes, sizes), first + hole))
        archives.append(archive(first + hole, each.values(), dialect=dialect))
        contents |= each
        first = max(each) + 1
    return contents, archives


@settings(max_examples=60)
@given(st.data(), LAYOUTS, st.integers(0, 20_000), st.integers(1, 20_000), st.sampled_from([1000, 2000, 8 << 20]))
def test_any_datapoints_are_read_by_any_ranges(
    shared: ArchiveHost,
    data: st.DataObject,
    layout: list[tuple[int, list[int], str]],
    gap: int,
    min_split: int,
    max_request: int,
) -> None:
    contents, archives = build(layout)
    wanted = data.draw(st.lists(st.sampled_from(sorted(contents)), max_size=50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Costs, "gap", gap)
        patch.setattr(locations, "_MIN_SPLIT", min_split)
        set_max_request(patch, max_request)
        handle = shared.handle(*archives)
        assert handle.get_many(wanted) == [contents[key] for key in wanted]
        assert [handle.get(key) for key in wanted] == [contents[key] for key in wanted]


@settings(max_examples=60)
@given(st.data(), LAYOUTS, st.integers(0, 20_000), st.integers(1, 20_000), st.sampled_from([1000, 2000, 8 << 20]))
def test_an_explanation_matches_the_requests_that_follow(
    shared: ArchiveHost,
    data: st.DataObject,
    layout: list[tuple[int, list[int], str]],
    gap: int,
    min_split: int,
    max_request: int,
) -> None:
    contents, archives = build(layout)
    wanted = data.draw(st.lists(st.sampled_from(sorted(contents)), min_size=2, max_size=50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Costs, "gap", gap)
        patch.setattr(locations, "_MIN_SPLIT", min_split)
        set_max_request(patch, max_request)
        handle = shared.handle(*archives)
        explained = handle.explain(wanted)
        requests, sent = len(shared.server.requests), shared.server.body_bytes_sent
        handle.get_many(wanted)
    assert explained.datapoints == len(set(wanted))
    assert explained.requests == len(shared.server.requests) - requests
    assert explained.bytes_fetched == shared.server.body_bytes_sent - sent
    assert explained.bytes_used == sum(len(contents[key]) for key in set(wanted))
    assert explained.gap == gap
    assert 1 <= explained.parallelism <= explained.requests
    if explained.bytes_used:
        assert explained.amplification == explained.bytes_fetched / explained.bytes_used


def test_an_explanation_of_no_keys_has_no_requests(shared: ArchiveHost) -> None:
    explained = shared.handle(tar({1: b"x"})).explain([])
    assert (explained.datapoints, explained.requests, explained.bytes_fetched) == (0, 0, 0)
    assert explained.amplification == 1.0


def test_an_explanation_matches_the_traffic_to_s3(
    relayed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay
    monkeypatch.setattr(Costs, "gap", 4096)
    archive = sample(tmp_path / "1.tar", 0, *[10_000] * 100)
    relayed.upload(archive)
    handle = relayed.client.datas3t(relayed.name)
    wanted = [*range(0, 100, 3), 1, 2]
    explained = handle.explain(wanted)
    assert explained.requests == 33
    requests, to_client = len(relayed.relay.requests), relayed.relay.bytes_to_client
    assert handle.get_many(wanted) == [archive.contents[key] for key in wanted]
    assert len(relayed.relay.requests) - requests == explained.requests
    header_bytes = relayed.relay.bytes_to_client - to_client - explained.bytes_fetched
    assert 0 < header_bytes < 1000 * explained.requests


@pytest.mark.parametrize("small", [0, 256 << 10], ids=["windows", "whole"])
@pytest.mark.parametrize("key", [10, 12, 14])
@pytest.mark.parametrize("change", [(512, 0, 0), (1 << 40, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
def test_a_wrong_record_is_always_noticed(
    shared: ArchiveHost, key: int, change: tuple[int, int, int], small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_files, "_SMALL", small)
    monkeypatch.setattr(Costs, "per_byte", 1e9)  # so that windows are always cheaper than a whole index
    raw = tar({each: b"%d" % each * 600 for each in range(10, 15)})
    correct = index_of(raw)
    at = (key - 10) * index.RECORD_SIZE
    position, blocks, size = map(sum, zip(index.entry_at(correct, key - 10), change, strict=True))
    wrong = correct[:at] + index.RECORD.pack(position, blocks, 0, size) + correct[at + index.RECORD_SIZE :]
    handle = shared.handle(raw, index=wrong)
    for read in (lambda: handle.get(key), lambda: handle.get_many(range(10, 15)), lambda: list(handle.scan())):
        with pytest.raises(ArchiveError, match="datarange 10 to 14 does not fit"):
            read()


def index_of(raw: bytes) -> bytes:
    return scan(lambda start, stop: raw[start:stop], len(raw)).index


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_numbers_become_text_with_leading_zeros(values: list[int]) -> None:
    keys = np.array(values, np.int64)
    assert many.texts(keys, 10, 20) == [b"%020d" % value for value in values]
    assert many.texts(keys, 8, 11) == [(b"%011o" % value)[-11:] for value in values]


def test_missing_keys_are_distinguished_from_existing_ones(shared: ArchiveHost) -> None:
    catalogues = shared.handle(tar({3: b"", 4: b""}), tar({8: b"", 9: b""}))._reader.catalogues
    assert locations.holders(np.arange(12), catalogues).missing.tolist() == [0, 1, 2, 5, 6, 7, 10, 11]
