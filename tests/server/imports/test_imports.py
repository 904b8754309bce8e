"""Imports into an empty database and into one that knows some of it: what comes, what does not, and why."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import names, tar
from datas3t.server import datas3ts, imports, spool, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.imports.archives import WHOLE_ARCHIVE
from tests.support import tars
from tests.support.importing import imported, index_of, leave, leave_index_in_parts, lost, object_key, rows
from tests.support.stack import BucketPool
from tests.support.uploads import Archive, Site, add_bucket, archive, large_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

SMALL = archive(5, b"one", b"two" * 400, b"", b"four")
MEDIUM = archive(100, *(bytes([n]) * 8192 for n in range(60)))
assert len(MEDIUM.data) > WHOLE_ARCHIVE


@pytest.fixture
def empty(services: "Services", site: Site, migrated_template: str, tmp_path: Path) -> Iterator[Site]:
    """The site's bucket seen by a server that knows nothing of it."""
    with lost(site, services, migrated_template, tmp_path) as other:
        yield other


def listed(site: Site) -> list[tuple[object, ...]]:
    return [(*(getattr(row, name) for name in row.__dataclass_fields__ if name != "id"),) for row in rows(site)]


def counter(site: Site) -> int:
    return datas3ts.find(site.resources, "images").upload_counter


def test_a_lost_database_comes_back_as_it_was(site: Site, empty: Site) -> None:
    for each in (SMALL, MEDIUM, large_archive(1000), archive((1 << 63) - 1, b"last")):
        site.upload(each)
    datas3ts.add(site.resources, "other", "local")
    replace(site, datas3t="other").upload(SMALL)
    before = site.objects()
    result = imported(empty)
    assert (sorted(result.imported), result.skipped, result.seen) == (["images", "other"], {}, 10)
    assert listed(empty) == listed(site)
    assert listed(replace(empty, datas3t="other")) == listed(replace(site, datas3t="other"))
    assert counter(empty) == counter(site) == 4
    assert site.objects() == before


def test_a_second_import_does_nothing(site: Site, empty: Site) -> None:
    site.upload(SMALL)
    site.upload(MEDIUM)
    imported(empty)
    before = rows(empty)
    assert imported(empty) == imported(site)
    assert imported(empty).imported == []
    assert rows(empty) == before


def test_an_empty_bucket_gives_nothing(site: Site) -> None:
    assert (imported(site).imported, imported(site).skipped, imported(site).seen) == ([], {}, 0)


def test_a_bucket_that_is_not_configured_is_not_found(site: Site) -> None:
    for name, reason in [("nope", v1.ERROR_REASON_BUCKET_NOT_FOUND), ("a b", v1.ERROR_REASON_INVALID_VALUE)]:
        with pytest.raises(Failure) as caught:
            list(imports.run(site.resources, name))
        assert caught.value.reason == reason


def test_the_counter_is_above_all_that_was_found(site: Site) -> None:
    leave(site, SMALL, 7)
    leave(site, replace(MEDIUM, data=b"garbage"), 900)
    imported(site)
    assert counter(site) == 900
    assert site.start(archive(1, b"x")).upload.data_object_key == object_key(archive(1, b"x"), 901)


def test_the_counter_of_its_own_is_kept_where_it_is_greater(site: Site) -> None:
    for _ in range(9):
        uploads.cancel(site.resources, site.start(archive(1, b"x")).upload.id)
    leave(site, SMALL, 4)
    imported(site)
    assert counter(site) == 9


def test_a_deleted_datas3t_comes_back_with_its_counter(site: Site) -> None:
    site.upload(archive(1, b"x"))
    site.clear()
    site.sweep()
    site.delete()
    leave(site, SMALL, 1)
    assert imported(site).imported == ["images"]
    assert counter(site) == 1
    assert len(rows(site)) == 1


def test_what_is_uploaded_or_about_to_be_deleted_is_left_alone(site: Site) -> None:
    pending = object_key(SMALL, 1)
    site.send(SMALL)
    upload_id, _ = site.send(MEDIUM)
    uploads.cancel(site.resources, upload_id)
    result = imported(site)
    assert result.imported == []
    assert result.skipped == {
        pending: "it belongs to a pending upload or aggregate",
        object_key(MEDIUM, 2): "it is queued for deletion",
    }
    site.sweep()
    assert imported(site).skipped.keys() == {pending}


def test_an_open_aggregate_is_left_alone(site: Site) -> None:
    key = leave(site, SMALL, 8)
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned,
                   data_object_key, index_object_key, part_size, multipart, expires_at)
               SELECT id, 5, 8, 10, '{}', true, %s, %s, 0, false, now() + '1 day' FROM datas3ts""",
            [key, names.index_key(key)],
        )
    assert imported(site).skipped == {key: "it belongs to a pending upload or aggregate"}


def test_an_index_that_comes_before_its_archive_belongs_to_the_upload(site: Site) -> None:
    started = site.start(SMALL)
    key = started.upload.index_object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.index)
    assert imported(site).skipped == {key: "it belongs to a pending upload or aggregate"}


def test_what_overlaps_a_datarange_is_skipped(site: Site) -> None:
    site.upload(archive(7, b"x", b"y"))
    key = leave(site, SMALL, 50)
    assert imported(site).skipped == {key: "it overlaps the existing datarange from 7 to 8"}
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(7, 8)]


def test_a_datas3t_on_another_bucket_is_left_alone(site: Site, services: "Services", buckets: BucketPool) -> None:
    site.upload(SMALL)
    with buckets.lend() as name:
        add_bucket(site.resources, services.s3, name, "second")
        key = leave(replace(site, bucket=name), MEDIUM, 70)
        result = imported(site, "second")
    assert result.imported == []
    assert result.skipped == {key: "datas3t 'images' is on another bucket configuration"}
    assert (len(rows(site)), counter(site)) == (1, 1)


def test_names_that_are_not_ours_are_skipped_or_passed_over(site: Site) -> None:
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
    result = imported(site)
    assert result.imported == []
    assert result.skipped == dict.fromkeys(strange, "its name is not that of an archive or index of a datas3t")


def test_an_index_without_an_archive_is_skipped(site: Site) -> None:
    key = names.index_key(object_key(SMALL, 3))
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=SMALL.index)
    assert imported(site).skipped == {key: "it is an index without an archive"}
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
def test_an_archive_that_cannot_be_read_is_skipped(site: Site, damage: str, large: bool) -> None:
    data, message = DAMAGED[damage]
    wrong: Archive = replace(SMALL, data=data + (bytes(2 * WHOLE_ARCHIVE) if large and data else b""))
    key = leave(site, wrong, 1)
    good = leave(site, MEDIUM, 2)
    result = imported(site)
    assert result.skipped.keys() == {key}
    assert re.search(message, result.skipped[key])
    assert [row.data_object_key for row in rows(site)] == [good]


PAX = tars.archive(100, [b"x" * 9000] * 60, dialect="pax")
PAX_INDEX = b"".join(
    n.to_bytes(8) + (1).to_bytes(2) + (9000).to_bytes(6) for n in range(0, 60 * (1536 + 9216), 1536 + 9216)
)


@pytest.mark.parametrize(
    ("made", "index"),
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
def test_an_index_that_does_not_fit_is_made_anew(site: Site, made: Archive, index: bytes) -> None:
    leave(site, made, 1, index=index)
    assert imported(site).skipped == {}
    (row,) = rows(site)
    right = tar.scan(lambda start, stop: made.data[start:stop], len(made.data))
    assert index_of(site, row) == right.index
    assert row.entries_size_bytes == right.entries_end
    assert row.index_etag == site.s3.head_object(Bucket=site.bucket, Key=row.index_object_key)["ETag"].strip('"')


def test_long_indices_are_made_and_compared_on_disk(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    site = site.having(scratch=tmp_path / "scratch")
    missing, there = leave(site, MEDIUM, 1, index=b""), leave(site, SMALL, 2, index=b"")
    leave_index_in_parts(site, there, SMALL.index)
    assert imported(site).skipped == {}
    assert [(row.data_object_key, index_of(site, row)) for row in rows(site)] == [
        (there, SMALL.index),
        (missing, MEDIUM.index),
    ]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_index_whose_etag_is_no_digest_is_compared_byte_for_byte(site: Site) -> None:
    key = leave(site, SMALL, 1, index=b"")
    etag = leave_index_in_parts(site, key, SMALL.index)
    assert imported(site).skipped == {}
    assert [row.index_etag for row in rows(site)] == [etag]
