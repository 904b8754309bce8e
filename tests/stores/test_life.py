"""The whole life of a dataset, tested on each of several different S3 servers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.client import Client
from tests.client.archives import MIB, Sample, sample
from tests.support.serving import serving, settings_for
from tests.support.stack import DatabasePool, wait_until
from tests.support.store_proxy import Ways, store_proxy
from tests.support.stores import Store, moto, nanio

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

WAYS = {
    "equal-parts": Ways(equal_parts_only=True),
    "no-bulk-delete": Ways(no_bulk_delete=True),
    "no-list-parts": Ways(no_list_parts=True),
    "slow-completion": Ways(completion_seconds=2.0, completion_forgets=True),
    "no-copy": Ways(no_copy=True),
    "no-list-uploads": Ways(no_list_uploads=True),
    "ranges-as-200": Ways(ranges_as_200=True),
    "weak-etags": Ways(weak_etags=True),
    "no-etags": Ways(no_etags=True),
    "expired-as-400": Ways(expired_as_400=True),
}


@pytest.fixture(scope="module")
def servers(services: "Services", tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """Return the S3 servers by name."""
    folder = tmp_path_factory.mktemp("stores")
    s3 = services.s3
    with contextlib.ExitStack() as running:
        yield {
            "seaweedfs": Store("seaweedfs", s3.endpoint, s3.access_key, s3.secret_key),
            "moto": running.enter_context(moto(folder)),
            "nanio": running.enter_context(nanio(folder)),
        }


@pytest.fixture(params=["seaweedfs", "moto", "nanio", *WAYS])
def store(request: pytest.FixtureRequest, servers: dict[str, Store]) -> Iterator[Store]:
    """Return one of the servers, or SeaweedFS behind a proxy that behaves like another store."""
    name: str = request.param
    if name in servers:
        yield servers[name]
        return
    real = servers["seaweedfs"]
    with store_proxy(real.endpoint, WAYS[name]) as proxy:
        yield Store(name, proxy.url, real.access_key, real.secret_key)


@pytest.fixture
def bucket(store: Store) -> str:
    """Return the name of an empty bucket of the store."""
    name = f"life-{store.name}"
    with store.client() as s3:
        s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def two_servers(
    services: "Services", databases: DatabasePool, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[tuple[Server, Server]]":
    """Return two servers with separate databases."""
    with contextlib.ExitStack() as running:
        first, second = (
            running.enter_context(
                serving(
                    settings_for(services, running.enter_context(databases.lend()), tmp_path_factory.mktemp("server"))
                )
            )
            for _ in range(2)
        )
        yield first, second


class InterruptedByTestError(Exception):
    """Raised by a test in the middle of an upload."""


def test_the_whole_life_of_a_dataset(
    store: Store,
    bucket: str,
    two_servers: "tuple[Server, Server]",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DATAS3T_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("datas3t.client.progress._MIN_INTERVAL", 0.0)
    name = store.name
    settings = {
        "endpoint": store.endpoint,
        "bucket": bucket,
        "access_key": store.access_key,
        "secret_key": store.secret_key,
    }
    small = [sample(tmp_path / f"{first}.tar", first, *[3000] * 20) for first in (1, 21, 41)]
    large = sample(tmp_path / "large.tar", 61, *[MIB // 2] * 50)  # uploaded in two parts
    other = sample(tmp_path / "other.tar", 201, 3000)
    contents = {key: content for each in (*small, large) for key, content in each.contents.items()}
    with Client(two_servers[0].url) as client, Client(two_servers[1].url) as second, store.client() as s3:
        client.add_bucket(name, **settings)
        client.add_datas3t(name, bucket=name)
        for each in (*small, other):
            client.upload_tar(name, each.path)
        upload_in_two_runs(client, name, large)
        client.delete_dataranges(name, 201, 201)

        images = client.datas3t(name)
        assert images.get(7) == contents[7]
        assert images.get_many([70, 3, 41]) == [contents[70], contents[3], contents[41]]
        client.download_tar(name, 65, 66, tmp_path / "out.tar")
        assert (tmp_path / "out.tar").read_bytes() == large.span(65, 66)

        client.aggregate(name, 1, large.last)
        (merged,) = client.list_dataranges(name)
        assert (merged.first, merged.last) == (1, large.last)
        images.refresh()
        assert {each.key: each.content for each in images.scan()} == contents

        second.add_bucket(name, **settings)
        second.import_datas3ts(name)
        assert second.datas3t(name).get(80) == contents[80]

        # A multipart upload that is open when the datas3t is cleared does not hold up the deletions.
        client.connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name, first_datapoint_index=1000, number_of_datapoints=1, data_size=50 * MIB
            )
        )
        client.clear_datas3t(name)
        wait_until(lambda: merged.object_key not in _keys(s3, bucket), what="the deletion of the archive")
        client.delete_datas3t(name)


def upload_in_two_runs(client: Client, name: str, archive: Sample) -> None:
    """Upload an archive: interrupt the first run after some bytes were sent, and resume in a second run."""

    def interrupt(phase: str, current: int, _total: int) -> None:
        if phase == "upload" and current > 0:
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        client.upload_tar(name, archive.path, progress=interrupt)
    client.upload_tar(name, archive.path)


def _keys(s3: "S3Client", bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
