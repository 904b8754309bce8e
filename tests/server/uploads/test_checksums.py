"""Uploads with checksums: what completion demands of them, and of the extension that the client tells."""

import base64
import json
from collections.abc import Callable

import pytest

from datas3t import v1
from datas3t.archive import checksums, index, names
from datas3t.server import dataranges, uploads
from datas3t.server.db import pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.objects import checks, contents
from tests.support.aggregates import rows
from tests.support.uploads import Archive, Site, archive, get, large_archive, put, put_data

SMALL = archive(1, b"one", b"", b"three" * 300)


def flipped(data: bytes, at: int) -> bytes:
    """Return data with one bit of the byte at `at` flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def only_row(site: Site) -> Datarange:
    """Return the only datarange."""
    (row,) = rows(site)
    return row


def expect_invalid(site: Site, sent: tuple[int, list[str]], message: str, **told: object) -> None:
    """Complete an upload that is wrong, twice; nothing is left of it."""
    for _ in range(2):
        with pytest.raises(Failure, match=message) as caught:
            uploads.complete(site.resources, *sent, **told)  # type: ignore[arg-type]
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_INVALID
    site.sweep()
    assert (site.objects(), site.multiparts()) == ([], [])


def test_checksums_and_extension_are_recorded_and_answered(site: Site) -> None:
    sent = site.send(SMALL, b"")
    for _ in range(2):
        uploads.complete(site.resources, *sent, extension="bin")
    row = only_row(site)
    assert row.extension == "bin"
    assert row.checksums_etag
    (signed,), _, _ = dataranges.presign(site.resources, site.datas3t, None, None)
    assert get(signed.checksums_url, 0, 12) == SMALL.checksums
    page = dataranges.presign_columns(site.resources, site.datas3t, None, None)
    (signature,) = page.columns.checksums_signatures
    url = f"{page.columns.url_prefix}{row.checksums_object_key.rpartition('/')[2]}?{page.columns.url_query}"
    assert get(f"{url}&X-Amz-Signature={signature.hex()}", 0, 12) == SMALL.checksums
    assert site.objects() == sorted([row.data_object_key, row.index_object_key, row.checksums_object_key])
    assert site.clear() == (1, 3)


def test_an_upload_without_checksums_has_none(site: Site) -> None:
    started = site.start(SMALL)
    assert started.checksums_put_url == ""
    assert not uploads.sign_parts(site.resources, started.upload.id, []).checksums_put_url
    site.upload(archive(10, b"x"))
    assert (only_row(site).checksums_etag, only_row(site).extension) == (None, None)
    (signed,), _, _ = dataranges.presign(site.resources, site.datas3t, None, None)
    assert signed.checksums_url == ""
    assert site.clear() == (1, 2)


def test_nothing_is_left_of_an_upload_that_was_never_completed(site: Site) -> None:
    site.send(SMALL, b"")
    with pool.connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET expires_at = now() - interval '1 second'")
    assert site.sweep() == 3
    assert site.objects() == []


def test_a_resumed_upload_gets_the_url_of_its_checksums_again(site: Site) -> None:
    started = site.start(SMALL, with_checksums=True)
    signed = uploads.sign_parts(site.resources, started.upload.id, [])
    put(signed.checksums_put_url, SMALL.checksums)
    put(signed.index_put_url, SMALL.index)
    put(signed.data_put_url, SMALL.data)
    uploads.complete(site.resources, started.upload.id, [])
    assert only_row(site).checksums_etag


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda right: right[:-4], "the checksums object in the bucket has 8 bytes instead of 12"),
        (lambda right: right + b"\0", "the checksums object in the bucket has 13 bytes instead of 12"),
        (lambda right: flipped(right, 11), "datapoint 3 has the checksum .{8}, but .{8} among the checksums"),
        (lambda right: flipped(right, 4), "datapoint 2 has the checksum 00000000, but 01000000 among the checksums"),
    ],
    ids=["short", "long", "wrong", "wrong-of-an-empty-content"],
)
def test_wrong_checksums_are_refused(site: Site, made: Callable[[bytes], bytes], message: str) -> None:
    expect_invalid(site, site.send(SMALL, made(SMALL.checksums)), message)


def test_missing_checksums_are_refused(site: Site) -> None:
    started = site.start(SMALL, with_checksums=True)
    put(started.index_put_url, SMALL.index)
    put_data(started, SMALL.data)
    expect_invalid(site, (started.upload.id, []), "the checksums object was never uploaded; start again")


def test_a_flipped_byte_of_a_small_archive_is_noticed(site: Site) -> None:
    damaged = Archive(1, 3, flipped(SMALL.data, index.decode(SMALL.index)[2].content[700]), SMALL.index)
    expect_invalid(site, site.send(damaged, SMALL.checksums), "datapoint 3 has the checksum")


def test_a_flipped_byte_of_a_sampled_entry_is_noticed(site: Site) -> None:
    whole = archive(5, *(bytes([n]) * 1000 for n in range(20)), *(bytes([n]) * (450 << 10) for n in range(10)))
    assert len(whole.data) > checks.WHOLE_ARCHIVE
    entries = index.decode(whole.index)
    damaged = Archive(5, 30, flipped(whole.data, entries[7].content[999]), whole.index)
    expect_invalid(site, site.send(damaged, whole.checksums), "datapoint 12 has the checksum")
    # A large content is not read, so it is for readers to notice.
    assert entries[25].size > contents.LARGEST
    unseen = Archive(5, 30, flipped(whole.data, entries[25].content[999]), whole.index)
    site.upload(unseen, whole.checksums)
    assert only_row(site).checksums_etag


def test_a_sample_is_compared_with_checksums_that_are_not_read_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_AT_ONCE", 8)
    monkeypatch.setattr(checks, "WHOLE_ARCHIVE", 1 << 10)
    site.upload(SMALL, b"")
    wrong = archive(10, b"a", b"b", b"c")
    with pytest.raises(Failure, match="datapoint 12 has the checksum"):
        site.upload(wrong, flipped(wrong.checksums, 8))


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "sample"])
def test_an_extension_that_an_entry_does_not_have_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    if not whole:
        monkeypatch.setattr(checks, "WHOLE_ARCHIVE", 1 << 10)
    mixed = archive(1, b"a", b"b", names=[f"{1:020d}.jpg", f"{2:020d}.jpg.txt"])
    expect_invalid(site, site.send(mixed), "does not have the extension 'jpg'", extension="jpg")
    site.upload(archive(1, b"a", b"b"), extension="bin")
    assert only_row(site).extension == "bin"


def test_a_listing_as_json_has_any_extension_and_no_null(site: Site) -> None:
    odd = ',"extension":null'
    for first, extension in ((1, odd), (2, "")):
        site.upload(archive(first, b"x", names=[f"{first:020d}.{odd}"]), extension=extension)
    page = dataranges.json_page(site.resources, site.datas3t, "")
    first, second = json.loads(b"[" + page.objects + b"]")
    assert first["extension"] == odd
    assert list(second) == [name for name in first if name != "extension"]
    assert "checksums_object_key" not in first


@pytest.mark.parametrize("extension", ["a/b", "a\0b", "x" * 256])
def test_an_extension_that_no_entry_can_have_is_not_final(site: Site, extension: str) -> None:
    sent = site.send(SMALL)
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, *sent, extension=extension)
    assert (caught.value.reason, caught.value.metadata) == (v1.ERROR_REASON_INVALID_VALUE, {"field": "extension"})
    uploads.complete(site.resources, *sent, extension="bin")


def test_s3_computes_the_checksum_of_the_archive_and_it_is_compared(site: Site) -> None:
    large = large_archive(1)
    for told, is_right in ((checksums.crc(large.data) ^ 1, False), (checksums.crc(large.data), True)):
        started = site.start(large, archive_crc32c=True)
        assert started.upload.archive_crc32c
        put(started.index_put_url, large.index)
        sent = started.upload.id, put_data(started, large.data)
        if is_right:
            uploads.complete(site.resources, *sent, archive_crc32c=told)
        else:
            expect_invalid(site, sent, "S3 has computed another checksum", archive_crc32c=told)
    head = site.s3.head_object(Bucket=site.bucket, Key=only_row(site).data_object_key, ChecksumMode="ENABLED")
    assert head["ChecksumCRC32C"] == base64.b64encode(told.to_bytes(4, "big")).decode()


def test_an_upload_whose_parts_s3_refuses_starts_again_without_a_checksum_of_the_archive(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large, archive_crc32c=True)
    put(started.part_urls[0], large.data[: started.upload.part_size])
    signed = uploads.sign_parts(site.resources, started.upload.id, [1, 2], archive_crc32c_refused=True)
    assert not signed.upload.archive_crc32c
    assert signed.uploaded == []
    again = uploads.sign_parts(site.resources, started.upload.id, [1, 2], archive_crc32c_refused=True)
    assert again.upload.s3_upload_id == signed.upload.s3_upload_id
    assert site.multiparts() == [signed.upload.s3_upload_id]
    size = started.upload.part_size
    etags = [put(url, large.data[(n - 1) * size : n * size]) for n, url in again.part_urls]
    put(again.index_put_url, large.index)
    uploads.complete(site.resources, started.upload.id, etags, archive_crc32c=checksums.crc(large.data))
    assert names.parse(only_row(site).data_object_key)
    assert not site.start(large_archive(100), archive_crc32c=True).upload.archive_crc32c
    with pool.connection(site.resources.pool) as conn:
        assert conn.execute("SELECT archive_crc32c FROM s3_buckets").fetchone() == (False,)
