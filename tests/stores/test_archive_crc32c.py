"""The checksum of a whole archive, which S3 is asked to compute, on stores that differ in what they make of it."""

import contextlib
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import checksums
from datas3t.server import buckets, uploads
from datas3t.server.errors import Failure
from tests.support.store_proxy import Ways, store_proxy
from tests.support.stores import Store, moto, nanio
from tests.support.uploads import Site, large_archive, open_resources, put, put_data

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

LARGE = large_archive(1)
WAYS = {
    "no-archive-crc32c": Ways(no_archive_crc32c=True),
    "parts-need-crc32c": Ways(parts_need_crc32c=True),
}


@pytest.fixture(params=["seaweedfs", "moto", "nanio", *WAYS])
def store(request: pytest.FixtureRequest, services: "Services", tmp_path: Path) -> Iterator[Store]:
    """Yield an S3 server, or SeaweedFS behind a proxy that behaves like another store."""
    s3, name = services.s3, request.param
    with contextlib.ExitStack() as running:
        if name in ("moto", "nanio"):
            yield running.enter_context(moto(tmp_path) if name == "moto" else nanio(tmp_path))
            return
        endpoint = running.enter_context(store_proxy(s3.endpoint, WAYS[name])).url if name in WAYS else s3.endpoint
        yield Store(name, endpoint, s3.access_key, s3.secret_key)


def send(site: Site) -> tuple[int, list[str], bool]:
    """Send an archive in parts, again without the checksum if its parts are refused; return if S3 was asked for it."""
    started = site.start(LARGE, archive_crc32c=True)
    put(started.index_put_url, LARGE.index)
    try:
        return started.upload.id, put_data(started, LARGE.data), started.upload.archive_crc32c
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
    size, numbers = started.upload.part_size, range(1, len(started.part_urls) + 1)
    signed = uploads.sign_parts(site.resources, started.upload.id, numbers, archive_crc32c_refused=True)
    parts = [put(url, LARGE.data[(number - 1) * size : number * size]) for number, url in signed.part_urls]
    return started.upload.id, parts, signed.upload.archive_crc32c


@contextlib.contextmanager
def open_site(store: Store, services: "Services", database: str, folder: Path) -> Iterator[Site]:
    """Yield a datas3t on a bucket of the store."""
    bucket = f"crc32c-{store.name}"
    with store.client() as s3, open_resources(database, services.encryption_key, folder / "cache") as resources:
        s3.create_bucket(Bucket=bucket)
        buckets.add(resources, "local", store.endpoint, bucket, None, store.access_key, store.secret_key)
        site = Site(resources, "images", bucket, s3)
        site.add()
        yield site


def test_an_upload_that_asks_for_it_works_on_every_store(
    store: Store, services: "Services", database: str, tmp_path: Path
) -> None:
    with open_site(store, services, database, tmp_path) as site:
        upload_id, etags, was_asked = send(site)
        assert was_asked == (store.name not in WAYS)
        told = checksums.crc(LARGE.data)
        uploads.complete(site.resources, upload_id, etags, archive_crc32c=told)
        site.clear()
        upload_id, etags, was_asked_again = send(site)
        assert was_asked_again == was_asked
        if store.name == "seaweedfs":
            with pytest.raises(Failure, match="S3 has computed another checksum") as caught:
                uploads.complete(site.resources, upload_id, etags, archive_crc32c=told ^ 1)
            assert caught.value.reason == v1.ERROR_REASON_UPLOAD_INVALID
        else:
            uploads.complete(site.resources, upload_id, etags)
        site.clear()
        site.sweep()
        assert site.objects() == []


def test_a_store_that_does_not_join_such_parts_is_not_asked_again(
    services: "Services", database: str, tmp_path: Path
) -> None:
    s3 = services.s3
    with store_proxy(s3.endpoint, Ways(joins_need_crc32c=True)) as proxy:
        store = Store("joins-need-crc32c", proxy.url, s3.access_key, s3.secret_key)
        with open_site(store, services, database, tmp_path) as site:
            upload_id, etags, was_asked = send(site)
            assert was_asked
            with pytest.raises(Failure, match="will not be when you start again") as caught:
                uploads.complete(site.resources, upload_id, etags, archive_crc32c=checksums.crc(LARGE.data))
            assert caught.value.reason == v1.ERROR_REASON_UPLOAD_INVALID
            upload_id, etags, was_asked = send(site)
            assert not was_asked
            uploads.complete(site.resources, upload_id, etags, archive_crc32c=checksums.crc(LARGE.data))
            site.clear()
            site.sweep()
            assert (site.objects(), site.multiparts()) == ([], [])
