"""Datas3ts: added, listed, cleared and deleted. Their upload counters never go back."""

from typing import TYPE_CHECKING

import pytest
from pyroaring import BitMap64

from datas3t import v1
from datas3t.server import dataranges, datas3ts, uploads
from datas3t.server.db.datas3ts import Summary
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.resources import Kept
from tests.support.uploads import Site, add_bucket, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MAX_KEY = (1 << 63) - 1


def counter(site: Site) -> int:
    """Start an upload and return the counter in its object key."""
    key = site.start(archive(1, b"content")).upload.data_object_key
    return int(key.removesuffix(".tar").rpartition("-")[2])


def test_a_new_datas3t_counts_uploads_from_one_and_adding_it_again_changes_nothing(site: Site) -> None:
    assert counter(site) == 1
    site.add()
    assert counter(site) == 2


def test_a_datas3t_cannot_be_added_on_another_bucket(site: Site, services: "Services") -> None:
    site.s3.create_bucket(Bucket=f"{site.bucket}-b")
    add_bucket(site.resources, services.s3, f"{site.bucket}-b", name="other")
    with pytest.raises(Failure, match="'images' is on another bucket configuration") as caught:
        datas3ts.add(site.resources, "images", "other")
    assert caught.value.reason == v1.ERROR_REASON_DATAS3T_EXISTS
    site.s3.delete_bucket(Bucket=f"{site.bucket}-b")


def test_the_counter_goes_on_when_a_deleted_datas3t_is_added_again(site: Site) -> None:
    assert [counter(site) for _ in range(3)] == [1, 2, 3]
    site.delete()
    with pytest.raises(Failure):
        counter(site)
    site.add()
    assert counter(site) == 4


def test_the_counter_starts_above_those_of_objects_in_the_bucket(site: Site) -> None:
    for key in (
        f"datas3t/fresh/dataranges/{1:020d}-{5:020d}-{41:012d}.tar",
        f"datas3t/fresh/dataranges/{1:020d}-{5:020d}-{12:012d}.index",
        f"datas3t/fresh-b/dataranges/{1:020d}-{5:020d}-{99:012d}.tar",
        "datas3t/fresh/dataranges/notes.txt",
    ):
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"x")
    datas3ts.add(site.resources, "fresh", "local")
    started = uploads.start(site.resources, "fresh", 1, 1, 2048)
    assert started.upload.data_object_key.endswith(f"-{42:012d}.tar")


def test_a_listing_has_the_numbers_and_sizes_of_each_datas3t(site: Site) -> None:
    a, b = archive(10, b"one", b"two"), archive(100, b"three")
    site.upload(a)
    site.upload(b)
    datas3ts.add(site.resources, "empty", "local")
    rows, token = datas3ts.page(site.resources, 0, "")
    size = len(a.data) + len(b.data)
    assert rows == [Summary("empty", "local", 0, 0, 0, 0, 0), Summary("images", "local", 2, 3, 10, 100, size)]
    assert token == ""
    assert datas3ts.page(site.resources, 1, "empty") == (rows[1:], "")


def test_the_numbers_are_right_at_the_greatest_keys(site: Site) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                                       size_bytes, entries_size_bytes, data_etag, index_etag)
               SELECT catalogue_id, 0, 9223372036854775807, 'a', 'b', 5497558138880, 1, '', '' FROM datas3ts"""
        )
    ((row,), _) = datas3ts.page(site.resources, 0, "")
    assert (row.total_datapoints, row.highest_datapoint) == (1 << 63, MAX_KEY)


def test_a_datas3t_with_dataranges_is_not_deleted(site: Site) -> None:
    site.upload(archive(1, b"content"))
    with pytest.raises(Failure, match="contains 1 dataranges; clear it first") as caught:
        site.delete()
    assert caught.value.reason == v1.ERROR_REASON_DATAS3T_NOT_EMPTY
    assert caught.value.metadata == {"datas3t": "images", "dataranges": "1"}


def test_clear_deletes_all_dataranges_and_cancels_open_uploads(site: Site) -> None:
    site.upload(archive(1, b"content"))
    site.upload(archive(2, b"content"))
    upload_id, etags = site.send(archive(3, b"content"))
    assert site.clear() == (2, 4)
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, upload_id, etags)
    assert caught.value.reason == v1.ERROR_REASON_UPLOAD_CANCELLED
    assert site.sweep() == 8
    assert site.objects() == []
    assert site.clear() == (0, 0)


def test_delete_cancels_open_uploads(site: Site) -> None:
    upload_id, etags = site.send(archive(3, b"content"))
    site.delete()
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, upload_id, etags)
    assert caught.value.reason == v1.ERROR_REASON_UPLOAD_CANCELLED
    site.sweep()
    assert site.objects() == []


def test_the_bitmap_has_the_keys_of_all_datapoints(site: Site) -> None:
    assert datas3ts.bitmap(site.resources, "images") == bytes(8)
    site.upload(archive(10, *[b"x"] * 5))
    site.upload(archive(15, b"x"))
    site.upload(archive(MAX_KEY, b"x"))
    keys = BitMap64.deserialize(datas3ts.bitmap(site.resources, "images"))
    assert list(keys) == [*range(10, 16), MAX_KEY]


def test_the_bitmap_follows_every_change(site: Site) -> None:
    def keys() -> list[int]:
        first, second = (datas3ts.bitmap(site.resources, "images") for _ in range(2))
        assert first == second  # the second time it is not made again
        return list(BitMap64.deserialize(first))

    assert keys() == []
    site.upload(archive(1, b"one", b"two"))
    assert keys() == [1, 2]
    site.upload(archive(7, b"seven"))
    assert keys() == [1, 2, 7]
    dataranges.delete(site.resources, "images", 1, 2)
    assert keys() == [7]
    site.clear()
    assert keys() == []
    site.delete()
    with pytest.raises(Failure, match="no datas3t 'images'"):
        datas3ts.bitmap(site.resources, "images")
    site.add()
    site.upload(archive(3, b"three"))
    assert keys() == [3]


def test_what_is_kept_is_bounded_and_the_least_used_is_forgotten() -> None:
    kept: Kept[str] = Kept(100)
    for name in ("a", "b"):
        kept.put(name, "1", name.upper(), 40)
    assert kept.latest("a") == ("1", "A")
    kept.put("c", "1", "C", 40)
    assert [kept.latest(name) for name in "abc"] == [("1", "A"), None, ("1", "C")]
    kept.put("a", "2", "larger", 60)
    assert [kept.latest(name) for name in "abc"] == [("2", "larger"), None, ("1", "C")]
    kept.put("d", "1", "too large", 101)
    assert [kept.latest(name) for name in "acd"] == [("2", "larger"), ("1", "C"), None]
    kept.put("a", "3", "too large", 101)
    assert [kept.latest(name) for name in "ac"] == [None, ("1", "C")]
    kept.put("e", "1", "E", 60)
    assert [kept.latest(name) for name in "ce"] == [("1", "C"), ("1", "E")]


def test_an_unknown_datas3t_is_not_found(site: Site) -> None:
    for call in (datas3ts.clear, datas3ts.delete, datas3ts.bitmap):
        with pytest.raises(Failure, match="there is no datas3t 'nope'") as caught:
            call(site.resources, "nope")
        assert caught.value.reason == v1.ERROR_REASON_DATAS3T_NOT_FOUND
    with pytest.raises(Failure) as caught:
        datas3ts.add(site.resources, "new", "nope")
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_NOT_FOUND
