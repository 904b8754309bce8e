"""Buckets with versioning: a deletion leaves versions, and `purge_versions` removes them too."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from datas3t.server import dataranges, datas3ts, uploads
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_numbers = itertools.count(1)


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """Return the name of a bucket of this test alone, because versions stay in it."""
    name = f"versioned-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(site: Site) -> Site:
    """Return a site whose bucket has versioning, with two dataranges and a foreign object with two versions."""
    site.s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    site.upload(archive(1, b"one"))
    site.upload(archive(11, b"eleven"))
    for body in (b"first", b"second"):
        site.s3.put_object(Bucket=site.bucket, Key="foreign", Body=body)
    return site


def versions(site: Site) -> list[str]:
    """Return the keys of all versions and delete markers, except for the foreign ones."""
    page = site.s3.list_object_versions(Bucket=site.bucket)
    assert sum(each["Key"] == "foreign" for each in page.get("Versions", ())) == 2
    keys = [each["Key"] for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))]
    return [key for key in keys if key != "foreign"]


def test_without_purge_versions_stay(versioned: Site) -> None:
    versioned.clear()
    versioned.sweep()
    assert (
        len(versions(versioned)) == 10
    )  # four objects, their delete markers, and those of the checksums that there might be


def delete_one(site: Site) -> None:
    dataranges.delete(site.resources, site.datas3t, 1, 1, purge_versions=True)


def clear(site: Site) -> None:
    datas3ts.clear(site.resources, site.datas3t, purge_versions=True)


def clear_first(site: Site) -> None:
    site.clear()
    datas3ts.delete(site.resources, site.datas3t, purge_versions=True)


@pytest.mark.parametrize(("remove", "left"), [(delete_one, 2), (clear, 0), (clear_first, 0)])
def test_purging_removes_the_versions_of_exactly_the_deleted_objects(
    versioned: Site, remove: Callable[[Site], None], left: int
) -> None:
    remove(versioned)
    versioned.sweep()
    assert len(versions(versioned)) == left


def test_what_arrives_after_a_purge_is_purged_at_the_second_look(versioned: Site) -> None:
    late = archive(21, b"late")
    started = versioned.start(late)
    datas3ts.clear(versioned.resources, versioned.datas3t, purge_versions=True)
    versioned.sweep()
    versioned.s3.put_object(Bucket=versioned.bucket, Key=started.upload.data_object_key, Body=b"late")
    with versioned.resources.pool.connection() as conn:
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")
    versioned.sweep()
    assert versions(versioned) == []


def test_purging_a_bucket_without_versioning_deletes_its_objects(site: Site) -> None:
    site.upload(archive(1, b"one"))
    uploads.cancel(site.resources, site.start(archive(2, b"two")).upload.id)
    clear(site)
    site.sweep()
    assert site.objects() == []
