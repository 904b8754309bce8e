"""Imports of archives with checksums: which are taken, which are skipped, and why."""

import os
import re

import pytest

from datas3t.archive import checksums, names
from datas3t.server.imports import choice, steps
from datas3t.server.imports import rows as import_rows
from tests.support.importing import import_bucket, object_key, put_archive, rows
from tests.support.uploads import Archive, Site, archive

SMALL = archive(1, b"one", b"", b"three")
LARGE = archive(11, os.urandom(300 << 10), b"twelve")
MIXED = archive(21, b"a", b"b", names=[f"{21:020d}.jpg", f"{22:020d}.txt"])
WRONG = checksums.encode([checksums.crc(b"one"), 0, 7])


@pytest.mark.parametrize("each", [SMALL, LARGE, MIXED], ids=["small", "large", "mixed"])
@pytest.mark.parametrize("has_index", [True, False], ids=["index", "no-index"])
def test_checksums_beside_an_archive_are_taken(site: Site, each: Archive, has_index: bool) -> None:
    put_archive(site, each, 5, index=None if has_index else b"", checksums=each.checksums)
    result = import_bucket(site)
    assert (result.imported, result.skipped) == (["images"], {})
    (row,) = rows(site)
    stored = site.s3.head_object(Bucket=site.bucket, Key=row.checksums_object_key)
    assert row.checksums_etag == stored["ETag"].strip('"')
    assert row.extension is None
    again = import_bucket(site)
    assert (again.imported, again.skipped) == ([], {})


@pytest.mark.parametrize("has_index", [True, False], ids=["index", "no-index"])
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"", "it has 0 bytes, but the checksums of 3 datapoints have 12"),
        (SMALL.checksums + b"\0", "it has 13 bytes, but the checksums of 3 datapoints have 12"),
        (WRONG, "datapoint 3 has the checksum .*, but 00000007 among the checksums: .* are damaged"),
    ],
    ids=["empty", "long", "wrong"],
)
def test_checksums_that_cannot_be_right_are_skipped(site: Site, has_index: bool, given: bytes, reason: str) -> None:
    key = put_archive(site, SMALL, 5, index=None if has_index else b"", checksums=given)
    ((skipped, found),) = import_bucket(site).skipped.items()
    assert skipped == names.checksums_key(key)
    assert re.fullmatch(reason, found)
    (row,) = rows(site)
    assert row.checksums_etag is None


@pytest.mark.parametrize("alone", [False, True], ids=["among-many", "alone"])
@pytest.mark.parametrize("has_index", [True, False], ids=["index", "no-index"])
@pytest.mark.parametrize("key", [11, 12], ids=["before-the-end", "at-the-end"])
def test_of_a_large_archive_the_contents_that_are_read_are_compared(
    site: Site, key: int, has_index: bool, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if alone:
        monkeypatch.setattr(choice, "check_indexed", lambda *_: {})
    wrong = bytearray(LARGE.checksums)
    wrong[4 * (key - LARGE.first)] ^= 1
    stored = put_archive(site, LARGE, 5, index=None if has_index else b"", checksums=bytes(wrong))
    skipped = import_bucket(site).skipped
    (row,) = rows(site)
    if has_index and key == 11:  # the index shows where it is, so only the end is read
        assert (skipped, row.checksums_etag is None) == ({}, False)
        return
    assert row.checksums_etag is None
    assert skipped.keys() == {names.checksums_key(stored)}
    assert f"datapoint {key} has the checksum" in skipped[names.checksums_key(stored)]


@pytest.mark.parametrize("has_index", [True, False], ids=["index", "no-index"])
def test_checksums_of_many_contents_at_the_end_are_compared(site: Site, has_index: bool) -> None:
    many = archive(1, os.urandom(300 << 10), *(b"%d" % n for n in range(300)), b"", os.urandom(9_000), b"")
    index = None if has_index else b""
    first = put_archive(site, many, 5, index=index, checksums=many.checksums)
    assert import_bucket(site).skipped == {}
    site.clear()
    site.sweep()
    wrong = bytearray(many.checksums)
    wrong[-9] ^= 1
    stored = put_archive(site, many, 6, index=index, checksums=bytes(wrong))
    assert stored != first
    assert "datapoint 302 has the checksum" in import_bucket(site).skipped[names.checksums_key(stored)]


def test_an_index_that_is_wrong_at_the_end_is_no_fault_of_the_checksums(site: Site) -> None:
    many = archive(1, os.urandom(300 << 10), *(b"%d" % n for n in range(300)))
    records = bytearray(many.index)  # an entry of one header block and a content becomes one of two
    at = 16 * 200
    records[at + 8 : at + 16] = (2).to_bytes(2, "big") + bytes(6)
    put_archive(site, many, 5, index=bytes(records), checksums=many.checksums)
    assert import_bucket(site).skipped == {}
    (row,) = rows(site)
    assert row.checksums_etag is not None


def test_checksums_without_an_archive_are_skipped(site: Site) -> None:
    key = names.checksums_key(object_key(SMALL, 3))
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.checksums)
    assert import_bucket(site).skipped == {key: "they are checksums without an archive"}


def test_checksums_of_a_pending_upload_are_skipped(site: Site) -> None:
    site.send(SMALL, b"")
    result = import_bucket(site)
    assert len(result.skipped) == 1  # the archive; what is beside it is not an object of its own
    started = site.start(archive(5, b"x"), with_checksums=True)
    key = names.checksums_key(started.upload.data_object_key)
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"1234")
    assert import_bucket(site).skipped[key] == "it belongs to a pending upload or aggregate"


def test_checksums_that_are_queued_for_deletion_are_skipped(site: Site) -> None:
    site.upload(SMALL, b"")
    (row,) = rows(site)
    site.clear()
    site.s3.delete_object(Bucket=site.bucket, Key=row.data_object_key)
    site.s3.delete_object(Bucket=site.bucket, Key=row.index_object_key)
    assert import_bucket(site).skipped == {row.checksums_object_key: "it is queued for deletion"}
    site.sweep()
    assert site.objects() == []


def test_an_archive_whose_checksums_are_gone_after_the_check_is_not_imported(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put_archive(site, SMALL, 5, checksums=SMALL.checksums)

    def commit_after_deletion(*arguments: object) -> object:
        site.s3.delete_object(Bucket=site.bucket, Key=names.checksums_key(key))
        return import_rows.commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "commit", commit_after_deletion)
    assert import_bucket(site).skipped == {key: "its checksums were deleted during the import; import again"}
    assert rows(site) == []
    site.sweep()
    assert key in site.objects()
    monkeypatch.undo()
    assert import_bucket(site).imported == ["images"]
