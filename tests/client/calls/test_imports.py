"""Imports through the SDK, into a server that has lost its database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client, FailedPrecondition, NotFound, Skipped
from tests.client.archives import sample
from tests.client.sites import Site
from tests.support.serving import serving, settings_for
from tests.support.stack import new_database

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.fixture
def new_client(services: "Services", migrated_template: str, tmp_path: Path, site: Site) -> Iterator[Client]:
    """Return a client of a server with a new database, which has only the bucket configuration of the site."""
    with (
        new_database(services, migrated_template) as database,
        serving(settings_for(services, database, tmp_path / "new-server")) as server,
        Client(server.url) as client,
    ):
        s3 = services.s3
        client.add_bucket(
            site.bucket, endpoint=s3.endpoint, bucket=site.bucket, access_key=s3.access_key, secret_key=s3.secret_key
        )
        yield client


def test_after_the_loss_of_the_database_everything_is_imported(site: Site, new_client: Client, tmp_path: Path) -> None:
    samples = [
        sample(tmp_path / f"{first}.tar", first, *sizes) for first, sizes in [(7, [1, 0, 999]), (50, [70_000] * 9)]
    ]
    for each in samples:
        site.upload(each)
    done = new_client.import_datas3ts(site.bucket)
    assert (done.datas3ts, done.skipped) == ([site.name], [])
    (before,) = [each for each in site.client.list_datas3ts() if each.name == site.name]
    assert new_client.list_datas3ts() == [before]
    contents = {each.key: each.content for each in new_client.datas3t(site.name).scan()}
    assert contents == samples[0].contents | samples[1].contents
    assert new_client.import_datas3ts(site.bucket).datas3ts == []


def test_skipped_objects_are_returned_with_the_reason(site: Site, new_client: Client) -> None:
    key = f"datas3t/{site.name}/dataranges/photos.tar"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"x")
    done = new_client.import_datas3ts(site.bucket)
    assert done.skipped == [Skipped(key, "its name is not that of an archive or index of a datas3t")]


def test_thousands_of_skipped_objects_arrive_in_several_messages(site: Site, new_client: Client) -> None:
    keys = [f"datas3t/{site.name}/dataranges/{'long-' * 40}{n}.tar" for n in range(1200)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: site.s3.put_object(Bucket=site.bucket, Key=key), keys))
    assert {each.object_key for each in new_client.import_datas3ts(site.bucket).skipped} == set(keys)


def test_progress_counts_objects(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 1, 10))
    seen: list[tuple[str, int, int]] = []
    site.client.import_datas3ts(site.bucket, progress=lambda *each: seen.append(each))
    assert seen[-1] == ("import", 3, 0)
    assert seen == sorted(set(seen))


def test_an_unknown_bucket_configuration_raises_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        client.import_datas3ts("nowhere")


def test_a_deleted_bucket_raises_failed_precondition(
    client: Client, bucket_settings: dict[str, str], site: Site
) -> None:
    client.add_bucket(bucket_settings["bucket"], **bucket_settings)
    site.s3.delete_bucket(Bucket=bucket_settings["bucket"])
    try:
        with pytest.raises(FailedPrecondition, match="refuses access to bucket"):
            client.import_datas3ts(bucket_settings["bucket"])
    finally:
        site.s3.create_bucket(Bucket=bucket_settings["bucket"])  # the fixture deletes it
