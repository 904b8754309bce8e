"""Imports with the plain functions of the server: archives put into a bucket by hand, and the result of an import."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.archive import names
from datas3t.archive.names import MAX_KEY
from datas3t.server import dataranges, imports
from datas3t.server.db.dataranges import Datarange
from tests.support.stack import new_database
from tests.support.uploads import Archive, Site, add_bucket, open_resources

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@dataclass(frozen=True)
class Result:
    """The steps of an import, joined. `skipped` has the reasons by object key."""

    imported: list[str]
    skipped: dict[str, str]
    seen: int


def import_bucket(site: Site, bucket_name: str = "local") -> Result:
    """Import the site's bucket; check that each skipped object is reported once."""
    steps = list(imports.run(site.resources, bucket_name))
    names_ = [name for step in steps for name in step.imported]
    assert steps[-1].imported_count == len(names_)
    skipped = [each for step in steps for each in step.skipped]
    assert len({each.key for each in skipped}) == len(skipped)
    return Result(names_, {each.key: each.reason for each in skipped}, steps[-1].seen)


def object_key(archive: Archive, counter: int, datas3t: str = "images") -> str:
    """Return the object key of an archive."""
    return names.archive_key(datas3t, archive.first, archive.first + archive.count - 1, counter)


def put_archive(
    site: Site,
    archive: Archive,
    counter: int,
    *,
    index: bytes | None = None,
    checksums: bytes | None = None,
    datas3t: str = "images",
) -> str:
    """Put an archive and its index into the bucket, and `checksums` if they are given; return the archive's key.

    `index` replaces the right index; b"" means that no index is put.
    """
    key = object_key(archive, counter, datas3t)
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=archive.data)
    if index != b"":
        body = archive.index if index is None else index
        site.s3.put_object(Bucket=site.bucket, Key=names.index_key(key), Body=body)
    if checksums is not None:
        site.s3.put_object(Bucket=site.bucket, Key=names.checksums_key(key), Body=checksums)
    return key


def put_index_in_parts(site: Site, key: str, index: bytes) -> str:
    """Put the index of an archive by a multipart upload; return its ETag, which is not the MD5 of its bytes."""
    where = {"Bucket": site.bucket, "Key": names.index_key(key)}
    upload = site.s3.create_multipart_upload(**where)["UploadId"]  # type: ignore[arg-type]
    part = site.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=index)["ETag"]  # type: ignore[arg-type]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    done = site.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    return done["ETag"].strip('"')


def put_archives(site: Site, archives: list[Archive], datas3t: str = "images") -> list[str]:
    """Put archives and their indices concurrently, with upload counters from 1 on; return the archives' keys."""
    with ThreadPoolExecutor(16) as threads:
        numbered = enumerate(archives, 1)
        return list(threads.map(lambda each: put_archive(site, each[1], each[0], datas3t=datas3t), numbered))


def rows(site: Site, datas3t: str = "images") -> list[Datarange]:
    """Return all dataranges of a datas3t."""
    return dataranges.find_span(site.resources, datas3t, 0, MAX_KEY, after=-1, limit=1_000_000).rows


def stored_index(site: Site, row: Datarange) -> bytes:
    """Return the index that is in the bucket."""
    return site.s3.get_object(Bucket=site.bucket, Key=row.index_object_key)["Body"].read()


@contextmanager
def with_empty_database(site: Site, services: "Services", template: str, folder: Path) -> Iterator[Site]:
    """Yield a site with the same bucket and an empty database."""
    with (
        new_database(services, template) as database,
        open_resources(database, services.encryption_key, folder / "other-cache") as resources,
    ):
        add_bucket(resources, services.s3, site.bucket)
        yield Site(resources, site.datas3t, site.bucket, site.s3)
