"""Listings page by page: archives are complete once no archive that overlaps them can follow."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import names
from datas3t.server.imports.archives import CheckedArchive
from datas3t.server.imports.listing import Archive, Found, Listing, OutOfOrderError, in_order
from datas3t.server.imports.rows import Batches, data_keys
from datas3t.server.s3.bucket import Listed, ObjectInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listed(key: str) -> Listed:
    return Listed(key, 10, f"etag of {key}", NOW)


SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8), st.integers(1, 9), st.sampled_from(["both", "tar", "index"])),
    max_size=25,
)


@given(SPANS, st.integers(1, 7), st.integers(1, 5))
def test_archives_are_complete_in_order_with_their_indices(
    spans: list[tuple[int, int, int, str]], page_size: int, most: int
) -> None:
    keys, lone, archives = set[str](), set[str](), dict[str, bool]()
    for first, more, counter, kind in {span[:3]: span for span in spans}.values():
        key = names.archive_key("images", first, first + more, counter)
        keys |= {key} if kind == "tar" else {names.index_key(key)} if kind == "index" else {key, names.index_key(key)}
        if kind == "index":
            lone.add(names.index_key(key))
        else:
            archives[key] = kind == "both"
    listing = Listing("images")
    found = [listing.add(map(listed, page)) for page in pages(sorted(keys), page_size)]
    found.append(listing.finish())
    assert [each.key for part in found for each in part.archives] == sorted(archives)
    assert {each.key: each.index is not None for part in found for each in part.archives} == archives
    assert {key for part in found for key in part.lone} == lone
    assert listing.counter == max((span[2] for span in spans), default=0)
    check_groups([part.archives for part in found if part.archives])

    # Parts hold everything, and do not tear apart what overlaps.
    for each in found:
        parts = list(each.parts(most))
        assert [archive for part in parts for archive in part.archives] == each.archives
        assert [key for part in parts for key in part.lone] == each.lone
        check_groups([part.archives for part in parts if part.archives])


def pages(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def check_groups(groups: list[list[Archive]]) -> None:
    for one, other in pairwise(groups):
        assert max(each.last for each in one) < min(each.first for each in other)


def test_objects_in_another_order_are_noticed_and_can_be_sorted() -> None:
    keys = [names.archive_key("images", n, n, 1) for n in range(20)]
    random.Random(1).shuffle(keys)
    with pytest.raises(OutOfOrderError):
        Listing("images").add(map(listed, keys))
    ordered = in_order([list(map(listed, page)) for page in pages(keys, 6)])
    assert [each.key for each in ordered] == sorted(keys)


def test_other_objects_are_named_or_ignored() -> None:
    found = Listing("images").add(map(listed, ["datas3t/images/dataranges/a.tar", "datas3t/images/dataranges/b.md"]))
    assert [each.key for each in found.unrecognized] == ["datas3t/images/dataranges/a.tar"]
    assert found.archives == []
    assert list(Found([], [], found.unrecognized).parts(5)) == []


def test_rows_take_a_hundred_bytes_each_until_they_are_added() -> None:
    source = random.Random(1)
    batches, keys = Batches(), []
    for number in range(12_000):
        info = ObjectInfo(source.randrange(1 << 40), source.randbytes(16).hex())
        archive = Archive("images", number * 100, number * 100 + 99, number, info, None)
        batches.add({archive: CheckedArchive(source.randbytes(16).hex(), info.size - 1024)})
        keys.append(archive.key)
    packed = batches.packed()
    assert (batches.count, len(packed)) == (12_000, 3)
    assert [key for batch in packed for key in data_keys(batch)] == keys
    assert sum(map(len, packed)) < 120 * 12_000
