"""Merged aggregates: a client downloads the sources and merges them with its own tar writer."""

import io
import tarfile
from collections.abc import Callable

import pytest

from datas3t import v1
from datas3t.archive import index, tar
from datas3t.server import aggregates
from datas3t.server.errors import Failure
from tests.support import tars
from tests.support.aggregates import bounds, merge, rows, send_merged, start, stored, upload_some
from tests.support.uploads import Archive, Site, archive, get, put

MIB = 1 << 20


def scan(data: bytes) -> tar.Contents:
    return tar.scan(lambda start, stop: data[start:stop], len(data))


def fetch_sources(started: aggregates.Started) -> list[bytes]:
    """Download the sources with the URLs that the start returned."""
    return [get(each.data_url, 0, each.datarange.size_bytes) for each in started.sources]


def assert_invalid(site: Site, sent: tuple[int, list[str]], message: str) -> None:
    """Check that two completions fail with the same message, and that dataranges and objects do not change."""
    before = rows(site)
    for _ in range(2):
        with pytest.raises(Failure, match=message) as caught:
            aggregates.complete(site.resources, *sent)
        assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_INVALID
    site.sweep()
    assert rows(site) == before
    assert len(site.objects()) == 2 * len(before)
    assert site.multiparts() == []


def with_longer_content(whole: Archive, key: int) -> Archive:
    """Return an archive of keys from 0 on in which one content has a byte more, which fits into its last block."""
    records = list(index.RECORD.iter_unpack(whole.index))
    position, size = records[key][0], records[key][3]
    replaced = archive(key, bytes(size + 1)).data[: 2 * index.BLOCK]
    data = whole.data[:position] + replaced + whole.data[position + len(replaced) :]
    records[key] = (position, 1, 0, size + 1)
    return Archive(0, whole.count, data, b"".join(index.RECORD.pack(*record) for record in records))


def test_the_start_returns_the_sources_in_order_with_working_urls(site: Site) -> None:
    sources = upload_some(site, 3)
    started = start(site, 1, 9)
    assert [each.datarange for each in started.sources] == rows(site)
    assert fetch_sources(started) == [each.data for each in sources]
    assert [get(each.index_url, 0, 48) for each in started.sources] == [each.index for each in sources]
    assert started.data_put_url
    assert (started.part_urls, started.part_count) == ([], 0)
    entries = sum(each.entries_size_bytes for each in rows(site))
    assert started.aggregate.data_size == started.aggregate.part_size == entries + 1024


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_of_any_tar_writer_is_accepted(site: Site, dialect: int) -> None:
    for n, source in enumerate(["ustar", "gnu", "pax"]):
        data = tars.archive(2 * n + 1, [b"a" * n, b"b" * 1000], dialect=source)
        site.upload(Archive(2 * n + 1, 2, data, scan(data).index))
    started = start(site, 1, 6)
    new = merge(fetch_sources(started), dialect=dialect)
    aggregates.complete(site.resources, *send_merged(started, new))
    (row,) = rows(site)
    assert stored(site, row.data_object_key) == new.data
    assert (row.size_bytes, row.first_key, row.last_key) == (len(new.data), 1, 6)
    expected = scan(new.data)
    assert (row.entries_size_bytes, stored(site, row.index_object_key)) == (expected.entries_end, expected.index)


def test_a_large_archive_is_uploaded_in_parts(site: Site) -> None:
    for n in range(4):
        site.upload(archive(2 * n + 1, bytes([n]) * (6 * MIB), b"small"))
    started = start(site, 1, 8)
    assert (len(started.part_urls), started.part_count, started.data_put_url) == (2, 2, "")
    new = merge(fetch_sources(started))
    aggregates.complete(site.resources, *send_merged(started, new))
    aggregates.complete(site.resources, started.aggregate.id, [])
    (row,) = rows(site)
    assert stored(site, row.data_object_key) == new.data


def test_fewer_parts_than_were_signed_are_accepted_and_more_are_not(site: Site) -> None:
    for n in range(4):
        site.upload(archive(2 * n + 1, bytes([n]) * (6 * MIB), b"small"))
    started = start(site, 1, 8)
    new = merge(fetch_sources(started), dialect=tarfile.USTAR_FORMAT)
    put(started.index_put_url, new.index)
    etag = put(started.part_urls[0], new.data)
    with pytest.raises(Failure, match="3 ETags were given, but the archive has 1 to 2 parts"):
        aggregates.complete(site.resources, started.aggregate.id, [etag] * 3)
    again = start(site, 1, 8)
    put(again.index_put_url, new.index)
    aggregates.complete(site.resources, again.aggregate.id, [put(again.part_urls[0], new.data)])
    assert bounds(site) == [(1, 8)]


def test_etags_are_refused_for_an_archive_in_one_put(site: Site) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6)
    with pytest.raises(Failure, match="upload_ids must be empty, because this archive goes up in one PUT") as caught:
        aggregates.complete(site.resources, started.aggregate.id, ["etag"])
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE


def test_a_missing_object_fails_the_aggregate(site: Site) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6)
    assert_invalid(site, (started.aggregate.id, []), "the archive was never uploaded")
    started = start(site, 1, 6)
    put(started.data_put_url, merge(fetch_sources(started)).data)
    assert_invalid(site, (started.aggregate.id, []), "the index was never uploaded")


CONTENTS = [b"one", b"two" * 300, b"three", b"four"]
WRONG: dict[str, tuple[Callable[[], Archive], str]] = {
    "another size": (
        lambda: archive(1, b"one", b"two" * 300, b"threes", b"four"),
        "datapoint 3 has 6 bytes, but 5 bytes in its source",
    ),
    "another name": (
        lambda: archive(1, *CONTENTS, names=[f"{n:020d}.{'jpg' if n == 4 else 'bin'}" for n in range(1, 5)]),
        "datapoint 4 is named '0{19}4.jpg', but '0{19}4.bin' in its source",
    ),
    "another content": (lambda: archive(1, b"one", b"two" * 300, b"THREE", b"four"), "datapoint 3 has another content"),
    "one too few": (lambda: archive(1, *CONTENTS[:3]), "the index in the bucket has 48 bytes instead of 64"),
    "other keys": (lambda: archive(2, *CONTENTS), "the first key must be 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_difference_from_the_sources_fails_the_aggregate(site: Site, wrong: str) -> None:
    site.upload(archive(1, *CONTENTS[:2]))
    site.upload(archive(3, *CONTENTS[2:]))
    make, message = WRONG[wrong]
    assert_invalid(site, send_merged(start(site, 1, 4), make()), message)


def test_all_sizes_of_many_datapoints_are_compared(site: Site) -> None:
    many = [b"x" * (1 + n % 7) for n in range(12_000)]
    site.upload(archive(0, *many[:100]))
    site.upload(archive(100, *many[100:]))
    merged = archive(0, *many)
    for key in (0, 99, 100, 7_001, 11_999):
        other = with_longer_content(merged, key)
        assert_invalid(site, send_merged(start(site, 0, 11_999), other), f"datapoint {key} has")
    aggregates.complete(site.resources, *send_merged(start(site, 0, 11_999), merged))
    assert bounds(site) == [(0, 11_999)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda new: Archive(1, 4, new.data[:-1024], new.index), "end marker"),
        (lambda new: Archive(1, 4, new.data + b"x" * 512, new.index), "not zero"),
        (lambda new: Archive(1, 4, new.data, new.index[:-1] + b"\1"), "index is wrong about datapoint 4"),
        (lambda new: Archive(1, 4, b"", new.index), "empty"),
        (lambda new: Archive(1, 4, b"\x1f\x8b" + new.data[2:], new.index), "gzip"),
    ],
    ids=["no end", "after the end", "index", "empty", "compressed"],
)
def test_an_archive_that_breaks_a_rule_fails_the_aggregate(
    site: Site, damage: Callable[[Archive], Archive], message: str
) -> None:
    site.upload(archive(1, *CONTENTS[:2]))
    site.upload(archive(3, *CONTENTS[2:]))
    new = archive(1, *CONTENTS)
    trimmed = new.data[: -(len(new.data) - 512 * 9 - 1024)]  # without tarfile's padding to 10,240 bytes
    assert_invalid(site, send_merged(start(site, 1, 4), damage(Archive(1, 4, trimmed, new.index))), message)


def test_tar_reads_the_merged_archive(site: Site) -> None:
    upload_some(site, 4)
    started = start(site, 1, 12)
    aggregates.complete(site.resources, *send_merged(started, merge(fetch_sources(started))))
    (row,) = rows(site)
    with tarfile.open(fileobj=io.BytesIO(stored(site, row.data_object_key))) as new:
        assert new.getnames() == [f"{key:020d}.bin" for key in range(1, 13)]
