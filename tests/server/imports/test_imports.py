"""Imports into databases that are empty or not: what is imported, what is skipped, and why."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import names, tar
from datas3t.server import datas3ts, imports, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.imports.archives import WHOLE_ARCHIVE
from datas3t.server.objects import spool
from tests.support import tars
from tests.support.importing import (
    import_bucket,
    object_key,
    put_archive,
    put_index_in_parts,
    rows,
    stored_index,
)
from tests.support.stack import BucketPool
from tests.support.uploads import Archive, Site, add_bucket, archive, large_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

SMALL = archive(5, b"one", b"two" * 400, b"", b"four")
MEDIUM = archive(100, *(bytes([n]) * 8192 for n in range(60)))
assert len(MEDIUM.data) > WHOLE_ARCHIVE


def rows_without_ids(site: Site) -> list[tuple[object, ...]]:
    return [(*(getattr(row, name) for name in row.__dataclass_fields__ if name != "id"),) for row in rows(site)]


def counter(site: Site) -> int:
    return datas3ts.find(site.resources, "images").upload_counter


def test_a_lost_database_is_restored(site: Site, empty_site: Site) -> None:
    for each in (SMALL, MEDIUM, large_archive(1000), archive((1 << 63) - 1, b"last")):
        site.upload(each)
    datas3ts.add(site.resources, "other", "local")
    replace(site, datas3t="other").upload(SMALL)
    before = site.objects()
    result = import_bucket(empty_site)
    assert (sorted(result.imported), result.skipped, result.seen) == (["images", "other"], {}, 10)
    assert rows_without_ids(empty_site) == rows_without_ids(site)
    assert rows_without_ids(replace(empty_site, datas3t="other")) == rows_without_ids(replace(site, datas3t="other"))
    assert counter(empty_site) == counter(site) == 4
    assert site.objects() == before


def test_a_repeated_import_changes_nothing(site: Site, empty_site: Site) -> None:
    site.upload(SMALL)
    site.upload(MEDIUM)
    import_bucket(empty_site)
    before = rows(empty_site)
    assert import_bucket(empty_site) == import_bucket(site)
    assert import_bucket(empty_site).imported == []
    assert rows(empty_site) == before


def test_an_empty_bucket_has_nothing_to_import(site: Site) -> None:
    assert (import_bucket(site).imported, import_bucket(site).skipped, import_bucket(site).seen) == ([], {}, 0)


def test_a_bucket_that_is_not_configured_is_not_found(site: Site) -> None:
    for name, reason in [("nope", v1.ERROR_REASON_BUCKET_NOT_FOUND), ("a b", v1.ERROR_REASON_INVALID_VALUE)]:
        with pytest.raises(Failure) as caught:
            list(imports.run(site.resources, name))
        assert caught.value.reason == reason


def test_the_counter_becomes_the_highest_in_the_bucket(site: Site) -> None:
    put_archive(site, SMALL, 7)
    put_archive(site, replace(MEDIUM, data=b"garbage"), 900)
    import_bucket(site)
    assert counter(site) == 900
    assert site.start(archive(1, b"x")).upload.data_object_key == object_key(archive(1, b"x"), 901)


def test_a_higher_counter_in_the_database_is_kept(site: Site) -> None:
    for _ in range(9):
        uploads.cancel(site.resources, site.start(archive(1, b"x")).upload.id)
    put_archive(site, SMALL, 4)
    import_bucket(site)
    assert counter(site) == 9


def test_a_deleted_datas3t_is_imported_with_its_old_counter(site: Site) -> None:
    site.upload(archive(1, b"x"))
    site.clear()
    site.sweep()
    site.delete()
    put_archive(site, SMALL, 1)
    assert import_bucket(site).imported == ["images"]
    assert counter(site) == 1
    assert len(rows(site)) == 1


def test_objects_of_pending_uploads_and_queued_objects_are_skipped(site: Site) -> None:
    pending = object_key(SMALL, 1)
    site.send(SMALL)
    upload_id, _ = site.send(MEDIUM)
    uploads.cancel(site.resources, upload_id)
    result = import_bucket(site)
    assert result.imported == []
    assert result.skipped == {
        pending: "it belongs to a pending upload or aggregate",
        object_key(MEDIUM, 2): "it is queued for deletion",
    }
    site.sweep()
    assert import_bucket(site).skipped.keys() == {pending}


def test_objects_of_pending_aggregates_are_skipped(site: Site) -> None:
    key = put_archive(site, SMALL, 8)
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned,
                   data_object_key, index_object_key, part_size, multipart, expires_at)
               SELECT id, 5, 8, 10, '{}', true, %s, %s, 0, false, now() + '1 day' FROM datas3ts""",
            [key, names.index_key(key)],
        )
    assert import_bucket(site).skipped == {key: "it belongs to a pending upload or aggregate"}


def test_an_index_without_archive_of_a_pending_upload_is_skipped(site: Site) -> None:
    started = site.start(SMALL)
    key = started.upload.index_object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.index)
    assert import_bucket(site).skipped == {key: "it belongs to a pending upload or aggregate"}


def test_an_archive_that_overlaps_a_datarange_is_skipped(site: Site) -> None:
    site.upload(archive(7, b"x", b"y"))
    key = put_archive(site, SMALL, 50)
    assert import_bucket(site).skipped == {key: "it overlaps the existing datarange from 7 to 8"}
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(7, 8)]


def test_a_datas3t_on_another_bucket_is_skipped(site: Site, services: "Services", buckets: BucketPool) -> None:
    site.upload(SMALL)
    with buckets.lend() as name:
        add_bucket(site.resources, services.s3, name, "second")
        key = put_archive(replace(site, bucket=name), MEDIUM, 70)
        result = import_bucket(site, "second")
    assert result.imported == []
    assert result.skipped == {key: "datas3t 'images' is on another bucket configuration"}
    assert (len(rows(site)), counter(site)) == (1, 1)


def test_unrecognized_names_are_skipped_or_ignored(site: Site) -> None:
    strange = [
        "datas3t/images/dataranges/photos.tar",
        "datas3t/images/dataranges/deep/er.index",
        f"datas3t/a b/dataranges/{5:020d}-{8:020d}-{1:012d}.tar",
        f"datas3t/images/dataranges/{9:020d}-{8:020d}-{1:012d}.tar",
        f"datas3t/images/dataranges/{5:020d}-{8:020d}-{0:012d}.tar",
    ]
    passed = ["datas3t/images/dataranges/README.md", f"datas3t/images/dataranges/{5:020d}.sha256", "datas3t/x", "y/z"]
    for key in strange + passed:
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.data)
    result = import_bucket(site)
    assert result.imported == []
    assert result.skipped == dict.fromkeys(strange, "its name is not that of an archive or index of a datas3t")


def test_an_index_without_an_archive_is_skipped(site: Site) -> None:
    key = names.index_key(object_key(SMALL, 3))
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.index)
    assert import_bucket(site).skipped == {key: "it is an index without an archive"}
    assert counter(site) == 3


DAMAGED = {
    "compressed": (b"\x1f\x8b\x08" + SMALL.data[3:], "compressed with gzip"),
    "empty": (b"", "empty"),
    "torn": (SMALL.data[:1600], "truncated|not a multiple of 512"),
    "other bytes": (bytes(range(256)) * 40, "checksum"),
    "other keys": (archive(6, b"one", b"two", b"", b"four").data, f"{6:020d}.*the first key must be 5"),
    "fewer": (archive(5, b"one").data, "holds 1 datapoints, but its name stands for 4"),
    "a wrong name": (archive(5, b"", b"", b"", b"", names=["a.jpg", "b", "c", "d"]).data, "'a.jpg' is not named"),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("large", [False, True])
def test_an_unreadable_archive_is_skipped(site: Site, damage: str, large: bool) -> None:
    data, message = DAMAGED[damage]
    wrong: Archive = replace(SMALL, data=data + (bytes(2 * WHOLE_ARCHIVE) if large and data else b""))
    key = put_archive(site, wrong, 1)
    good = put_archive(site, MEDIUM, 2)
    result = import_bucket(site)
    assert result.skipped.keys() == {key}
    assert re.search(message, result.skipped[key])
    assert [row.data_object_key for row in rows(site)] == [good]


PAX = tars.archive(100, [b"x" * 9000] * 60, dialect="pax")
PAX_INDEX = b"".join(
    n.to_bytes(8) + (1).to_bytes(2) + (9000).to_bytes(6) for n in range(0, 60 * (1536 + 9216), 1536 + 9216)
)


@pytest.mark.parametrize(
    ("stored", "index"),
    [
        (SMALL, b""),
        (MEDIUM, b""),
        (SMALL, bytes(64)),
        (MEDIUM, bytes(16 * 60)),
        (SMALL, SMALL.index[:-16]),
        (MEDIUM, MEDIUM.index[:-1]),
        (MEDIUM, archive(100, *[bytes(8191)] * 59, bytes(8192)).index),
        (Archive(100, 60, PAX, b""), PAX_INDEX),
    ],
    ids=[
        "missing, small",
        "missing",
        "zeros, small",
        "zeros",
        "short",
        "torn",
        "of another archive",
        "earlier clients'",
    ],
)
def test_a_missing_or_wrong_index_is_made_again(site: Site, stored: Archive, index: bytes) -> None:
    put_archive(site, stored, 1, index=index)
    assert import_bucket(site).skipped == {}
    (row,) = rows(site)
    expected = tar.scan(lambda start, stop: stored.data[start:stop], len(stored.data))
    assert stored_index(site, row) == expected.index
    assert row.entries_size_bytes == expected.entries_end
    assert row.index_etag == site.s3.head_object(Bucket=site.bucket, Key=row.index_object_key)["ETag"].strip('"')


def test_long_indices_are_made_and_compared_on_disk(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    site = site.with_resources(scratch=tmp_path / "scratch")
    without_index, with_index = put_archive(site, MEDIUM, 1, index=b""), put_archive(site, SMALL, 2, index=b"")
    put_index_in_parts(site, with_index, SMALL.index)
    assert import_bucket(site).skipped == {}
    assert [(row.data_object_key, stored_index(site, row)) for row in rows(site)] == [
        (with_index, SMALL.index),
        (without_index, MEDIUM.index),
    ]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_index_whose_etag_is_not_an_md5_is_compared_byte_for_byte(site: Site) -> None:
    key = put_archive(site, SMALL, 1, index=b"")
    etag = put_index_in_parts(site, key, SMALL.index)
    assert import_bucket(site).skipped == {}
    assert [row.index_etag for row in rows(site)] == [etag]
