"""Imports against the plain functions of the server: what is put into a bucket by hand, and what came of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.archive import names
from datas3t.server import dataranges, imports
from datas3t.server.db.dataranges import Datarange
from tests.support.stack import new_database
from tests.support.uploads import Archive, Site, add_bucket, open_resources

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@dataclass(frozen=True)
class Result:
    """The steps of an import, joined; `skipped` by object key."""

    imported: list[str]
    skipped: dict[str, str]
    seen: int


def imported(site: Site, bucket_name: str = "local") -> Result:
    """Imports the site's bucket."""
    steps = list(imports.run(site.resources, bucket_name))
    names_ = [name for step in steps for name in step.imported]
    assert steps[-1].imported_count == len(names_)
    told = [each for step in steps for each in step.skipped]
    assert len({each.key for each in told}) == len(told)
    return Result(names_, {each.key: each.reason for each in told}, steps[-1].seen)


def object_key(archive: Archive, counter: int, datas3t: str = "images") -> str:
    """The key that an archive has in the bucket."""
    return names.archive_key(datas3t, archive.first, archive.first + archive.count - 1, counter)


def leave(site: Site, archive: Archive, counter: int, *, index: bytes | None = None, datas3t: str = "images") -> str:
    """Puts an archive into the bucket, and its index or another one; with b"" none. Its key."""
    key = object_key(archive, counter, datas3t)
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=archive.data)
    if index != b"":
        body = archive.index if index is None else index
        site.s3.put_object(Bucket=site.bucket, Key=names.index_key(key), Body=body)
    return key


def leave_index_in_parts(site: Site, key: str, index: bytes) -> str:
    """Puts the index of an archive there by a multipart upload; its ETag, which is no digest of its bytes."""
    where = {"Bucket": site.bucket, "Key": names.index_key(key)}
    upload = site.s3.create_multipart_upload(**where)["UploadId"]  # type: ignore[arg-type]
    part = site.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=index)["ETag"]  # type: ignore[arg-type]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    done = site.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    return done["ETag"].strip('"')


def leave_many(site: Site, archives: list[Archive], datas3t: str = "images") -> None:
    """Puts archives and indices into the bucket, many at a time; counters from 1 on."""
    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(lambda each: leave(site, each[1], each[0], datas3t=datas3t), enumerate(archives, 1)):
            pass


def rows(site: Site, datas3t: str = "images") -> list[Datarange]:
    """All dataranges of a datas3t."""
    found, token = dataranges.page(site.resources, datas3t, 0, "")
    while token:
        more, token = dataranges.page(site.resources, datas3t, 0, token)
        found += more
    return found


def index_of(site: Site, row: Datarange) -> bytes:
    """The index as it is in the bucket."""
    return site.s3.get_object(Bucket=site.bucket, Key=row.index_object_key)["Body"].read()


@contextmanager
def lost(site: Site, services: "Services", template: str, folder: Path) -> Iterator[Site]:
    """The same bucket seen by a server whose database is empty."""
    with (
        new_database(services, template) as database,
        open_resources(database, services.encryption_key, folder / "other-cache") as resources,
    ):
        add_bucket(resources, services.s3, site.bucket)
        yield Site(resources, site.datas3t, site.bucket, site.s3)
