"""Listings and imports by tokens whose pattern matches some datas3ts, against a real server; several processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client, PermissionDenied, Unauthenticated
from datas3t.server.settings import AccessSettings
from tests.support.serving import serving, settings_for
from tests.support.stack import ServerProcess, new_database, wait_until
from tests.support.tars import archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ADMIN = "an-admin-token-of-32-characters-or-more"


def fill(admin: Client, services: "Services", bucket: str, folder: Path) -> None:
    """Add the bucket configuration `b`, and datas3ts of one datapoint each."""
    s3 = services.s3
    admin.add_bucket("b", endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key)
    (folder / "a.tar").write_bytes(archive(1, [b"one"]))
    for name in ("cats-1", "cats-2", "dogs-1"):
        admin.add_datas3t(name, bucket="b")
        admin.upload_tar(name, folder / "a.tar")


@pytest.fixture
def admin(services: "Services", database: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a server that asks for tokens."""
    access = AccessSettings(asks=True, admin_token=ADMIN)
    with (
        serving(settings_for(services, database, tmp_path, access=access)) as server,
        Client(server.url, token=ADMIN) as client,
    ):
        yield client


def test_a_listing_has_what_the_pattern_matches(
    admin: Client, services: "Services", bucket: str, tmp_path: Path
) -> None:
    fill(admin, services, bucket, tmp_path)
    token = admin.create_token("cats", role="manage", pattern="cats-*").text
    with Client(admin.url, token=token) as client:
        assert [each.name for each in client.list_datas3ts()] == ["cats-1", "cats-2"]
        assert [(each.name, each.endpoint, each.bucket) for each in client.list_buckets()] == [("b", "", "")]
        assert client.datas3t("cats-1").get(1) == b"one"
        for name in ("dogs-1", "there-is-none"):  # what exists is not told apart
            with pytest.raises(PermissionDenied, match="cats-"):
                client.datas3t(name).get(1)
        with pytest.raises(PermissionDenied):
            client.delete_bucket("b")
    assert len(admin.list_datas3ts()) == 3


def test_an_import_takes_what_the_pattern_matches(
    admin: Client, services: "Services", bucket: str, tmp_path: Path
) -> None:
    fill(admin, services, bucket, tmp_path)
    access = AccessSettings(asks=True, admin_token=ADMIN)
    with (
        new_database(services) as empty,
        serving(settings_for(services, empty, tmp_path / "other", access=access)) as server,
        Client(server.url, token=ADMIN) as other,
    ):
        s3 = services.s3
        other.add_bucket("b", endpoint=s3.endpoint, bucket=bucket, access_key=s3.access_key, secret_key=s3.secret_key)
        token = other.create_token("cats", role="manage", pattern="cats-*").text
        with Client(server.url, token=token) as client:
            assert sorted(client.import_datas3ts("b").datas3ts) == ["cats-1", "cats-2"]
        assert [each.name for each in other.list_datas3ts()] == ["cats-1", "cats-2"]
        assert other.import_datas3ts("b").datas3ts == ["dogs-1"]


def test_all_workers_of_a_server_ask_for_tokens(services: "Services", database: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{ADMIN}\n")
    options = ("--workers", "2", "--auth", "tokens", "--admin-token-file", str(file))
    process = ServerProcess(tmp_path, database, services.encryption_key, options=options)
    try:
        process.wait_ready()
        for _ in range(8):  # each client has a connection of its own, and the workers share these out
            with Client(process.url) as stranger, pytest.raises(Unauthenticated):
                stranger.list_datas3ts()
            with Client(process.url, token=ADMIN) as client:
                assert client.whoami().kind == "admin_token"
        with Client(process.url, token=ADMIN) as client:
            token = client.create_token("reader", role="read").text
            for _ in range(8):
                with Client(process.url, token=token) as reader:
                    assert reader.list_datas3ts() == []
            client.revoke_token("reader")

        def is_refused() -> bool:
            with Client(process.url, token=token) as reader:
                try:
                    reader.list_datas3ts()
                except Unauthenticated:
                    return True
            return False

        wait_until(is_refused, 10, what="the end of the token")
    finally:
        process.terminate()
