"""Bucket configurations: tested before they are stored, added again without effect, and kept while they are used."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from datas3t import v1
from datas3t.server import buckets, datas3ts, uploads
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db import keys_to_delete, s3_buckets
from datas3t.server.db.pool import connection, transaction
from datas3t.server.errors import Failure
from datas3t.server.reaper import backlog
from datas3t.server.resources import Resources
from datas3t.server.s3.endpoints import AllowedEndpoints
from tests.support.stack import wait_until
from tests.support.uploads import Site, add_bucket, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


SETTINGS = {
    "name": "n",
    "endpoint": "http://127.0.0.1:1",
    "bucket": "bucket",
    "region": "r",
    "access_key": "a",
    "secret_key": "s",
}


def rows(resources: Resources) -> list[tuple[object, ...]]:
    """Return the stored configurations."""
    with connection(resources.pool) as conn:
        return conn.execute("SELECT name, endpoint, bucket, access_key, secret_key FROM s3_buckets").fetchall()


def a_lock_is_awaited(resources: Resources) -> bool:
    with connection(resources.pool) as conn:
        return conn.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone() == (True,)


def test_credentials_are_stored_encrypted_and_never_listed(site: Site, services: "Services") -> None:
    listed, token = buckets.page(site.resources, 0, "")
    assert [(row.name, row.endpoint, row.bucket) for row in listed] == [("local", services.s3.endpoint, site.bucket)]
    assert token == ""
    assert services.s3.secret_key not in str(rows(site.resources))
    assert services.s3.access_key not in str(rows(site.resources))
    assert listed[0].secret_key not in repr(listed[0])


def test_adding_the_same_configuration_again_changes_nothing(site: Site, services: "Services") -> None:
    before = rows(site.resources)
    add_bucket(site.resources, services.s3, site.bucket, endpoint=services.s3.endpoint.upper().replace("HTTP", "http"))
    add_bucket(site.resources, services.s3, site.bucket, endpoint=services.s3.endpoint + "/")
    assert rows(site.resources) == before


def test_other_settings_under_the_same_name_are_an_error(site: Site, services: "Services") -> None:
    other = dataclasses.replace(services.s3, secret_key="forgotten")
    with pytest.raises(Failure, match="'local' exists with other settings") as caught:
        add_bucket(site.resources, other, site.bucket)
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_EXISTS
    assert "forgotten" not in caught.value.message


def test_a_bucket_has_only_one_configuration(site: Site, services: "Services") -> None:
    with pytest.raises(Failure, match="another bucket configuration already has") as caught:
        add_bucket(site.resources, services.s3, site.bucket, name="twice")
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_EXISTS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"secret_key": "wrong"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED),
        ({"access_key": "wrong"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED),
        ({"endpoint": "http://127.0.0.1:1"}, v1.ERROR_REASON_ENDPOINT_UNREACHABLE),
    ],
)
def test_a_configuration_that_does_not_work_is_not_added(
    resources: Resources, services: "Services", bucket: str, change: dict[str, str], reason: int
) -> None:
    with pytest.raises(Failure) as caught:
        add_bucket(resources, dataclasses.replace(services.s3, **change), bucket)
    assert caught.value.reason == reason
    assert rows(resources) == []


def test_a_bucket_that_does_not_exist_is_not_added(resources: Resources, services: "Services") -> None:
    with pytest.raises(Failure) as caught:
        add_bucket(resources, services.s3, "no-such-bucket")
    assert caught.value.reason == v1.ERROR_REASON_S3_BUCKET_NOT_FOUND


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a b"),
        ("name", "x" * 256),
        ("name", "nul\0"),
        ("endpoint", ""),
        ("endpoint", "localhost:9000"),
        ("endpoint", "s3.example.com"),
        ("endpoint", "ftp://s3.example.com"),
        ("endpoint", "http://"),
        ("endpoint", "http://s3.example.com/path"),
        ("endpoint", "http://s3.example.com?query=1"),
        ("endpoint", "http://user:hidden@s3.example.com"),
        ("endpoint", "http://s3.example.com:99999"),
        ("endpoint", "http://nul\0"),
        ("bucket", ""),
        ("bucket", "a/b"),
        ("bucket", "../x"),
        ("region", "eu west"),
        ("access_key", ""),
        ("secret_key", ""),
        ("secret_key", "a\0b"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_its_field(resources: Resources, field: str, value: str) -> None:
    with pytest.raises(Failure) as caught:
        buckets.add(resources, **{**SETTINGS, field: value})
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    assert caught.value.metadata == {"field": field}
    assert "hidden" not in caught.value.message


def test_the_error_for_an_endpoint_without_scheme_names_the_schemes(resources: Resources) -> None:
    with pytest.raises(Failure, match="must begin with a scheme: https://"):
        buckets.add(resources, **{**SETTINGS, "endpoint": "s3.example.com"})


def configure(resources: Resources, **endpoints: str) -> None:
    """Insert configurations of the bucket `b` as an earlier server may have stored them."""
    with connection(resources.pool) as conn:
        for name, endpoint in endpoints.items():
            conn.execute(
                """INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
                   VALUES (%s, %s, 'b', 'r', 'a', 's')""",
                [name, endpoint],
            )


def endpoints(resources: Resources) -> dict[str, str]:
    return {row.name: row.endpoint for row in buckets.page(resources, 0, "")[0]}


def test_endpoints_of_earlier_servers_get_the_spelling_of_new_ones(
    resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    configure(
        resources,
        first="http://127.1:9000",
        other="https://[2001:DB8:0::1]",
        second="http://2130706433:9000",
        third="http://s3.example.com.",
        same="https://s3.example.com",
        unusable="http://169.254.169.254",
    )
    for _ in range(2):
        buckets.normalize_endpoints(resources)
        assert endpoints(resources) == {
            "first": "http://127.0.0.1:9000",
            "other": "https://[2001:db8::1]",
            "same": "https://s3.example.com",
            "second": "http://2130706433:9000",
            "third": "http://s3.example.com",
            "unusable": "http://169.254.169.254",
        }
    assert "'second' names a bucket that another one names as well" in caplog.text
    assert "'unusable' is not allowed any more" in caplog.text


def test_ten_servers_that_start_at_once_normalize_endpoints_together(resources: Resources) -> None:
    configure(resources, **{f"n{number}": f"http://0x7f.{number}:9000" for number in range(20)})
    with ThreadPoolExecutor(10) as threads:
        for done in [threads.submit(buckets.normalize_endpoints, resources) for _ in range(10)]:
            done.result()
    assert endpoints(resources) == {f"n{number}": f"http://127.0.0.{number}:9000" for number in range(20)}


def test_another_spelling_of_an_endpoint_is_the_same_bucket(site: Site, services: "Services") -> None:
    port = services.s3.endpoint.rpartition(":")[2]
    for spelling in ("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]"):
        add_bucket(site.resources, services.s3, site.bucket, endpoint=f"HTTP://{spelling}:0{port}/?#")
        with pytest.raises(Failure, match="another bucket configuration already has"):
            add_bucket(site.resources, services.s3, site.bucket, name="twice", endpoint=f"http://{spelling}:{port}/?")


def test_listings_have_pages_in_order_of_names(resources: Resources) -> None:
    with connection(resources.pool) as conn:
        conn.execute(
            """INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
               SELECT name, 'http://s3', name, 'r', 'a', 's' FROM unnest(ARRAY['b', 'A', 'a', '-', 'B']) AS name"""
        )
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        page, token = buckets.page(resources, 2, token)
        pages.append([row.name for row in page])
    assert pages == [["-", "A"], ["B", "a"], ["b"]]


def test_new_credentials_are_tested_before_they_are_stored(site: Site, services: "Services") -> None:
    before = rows(site.resources)
    with pytest.raises(Failure) as caught:
        buckets.update(site.resources, "local", services.s3.access_key, "wrong")
    assert caught.value.reason == v1.ERROR_REASON_S3_CREDENTIALS_REFUSED
    assert rows(site.resources) == before
    buckets.update(site.resources, "local", services.s3.access_key, services.s3.secret_key)
    assert rows(site.resources) != before  # another nonce
    site.upload(archive(1, b"content"))


def test_a_bucket_that_a_datas3t_uses_is_not_deleted(site: Site) -> None:
    with pytest.raises(Failure, match="'local' is used by a datas3t") as caught:
        buckets.delete(site.resources, "local")
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_IN_USE
    assert caught.value.metadata == {"bucket": "local"}


def test_a_bucket_is_not_deleted_before_its_objects_are(site: Site) -> None:
    site.upload(archive(1, b"content"))
    site.clear()
    site.delete()
    with pytest.raises(Failure, match="still to be deleted") as caught:
        buckets.delete(site.resources, "local")
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_IN_USE
    assert site.sweep() == 3
    buckets.delete(site.resources, "local")
    assert rows(site.resources) == []


def test_a_bucket_with_objects_to_delete_later_is_not_deleted(site: Site) -> None:
    site.delete()
    with connection(site.resources.pool) as conn:
        row = buckets.find(site.resources, "local", "bucket")
        keys_to_delete.queue(conn, row.id, ["replaced"], after=site.resources.url_lifetime)
    with pytest.raises(Failure, match="still to be deleted"):
        buckets.delete(site.resources, "local")


def test_a_bucket_with_nothing_but_second_looks_is_deleted(site: Site) -> None:
    started = site.start(archive(1, b"content"))
    uploads.cancel(site.resources, started.upload.id)
    site.delete()
    assert site.sweep() == 2
    assert backlog(site.resources).later == 2
    buckets.delete(site.resources, "local")
    assert backlog(site.resources).later == 0


def test_a_bucket_that_a_datas3t_takes_meanwhile_keeps_its_second_looks(site: Site) -> None:
    uploads.cancel(site.resources, site.start(archive(1, b"content")).upload.id)
    site.delete()
    assert site.sweep() == 2
    row = buckets.find(site.resources, "local", "bucket")
    with ThreadPoolExecutor(1) as thread:
        with transaction(site.resources.pool) as conn:
            datas3t_rows.add(conn, "other", row.id, 0)  # not visible before the commit, and locks the bucket
            deletion = thread.submit(buckets.delete, site.resources, "local")
            wait_until(lambda: is_a_lock_waited_for(site.resources))
        with pytest.raises(Failure, match="is used by a datas3t"):
            deletion.result()
    assert backlog(site.resources).later == 2


def is_a_lock_waited_for(resources: Resources) -> bool:
    """Ask in a transaction of its own, because each transaction sees the activity of one moment."""
    with connection(resources.pool) as conn:
        row = conn.execute("""SELECT EXISTS (SELECT FROM pg_stat_activity
                                              WHERE datname = current_database() AND wait_event_type = 'Lock')""")
        return row.fetchone() == (True,)


@pytest.mark.parametrize("change", ["due_at = due_since - interval '1 s', due_since = now()", "multipart = true"])
def test_a_bucket_with_a_claimed_second_look_or_one_at_a_multipart_upload_is_not_deleted(
    site: Site, change: str
) -> None:
    started = site.start(archive(1, b"content"))
    uploads.cancel(site.resources, started.upload.id)
    site.delete()
    assert site.sweep() == 2
    with connection(site.resources.pool) as conn:
        conn.execute(f"UPDATE keys_to_delete SET {change}")
    with pytest.raises(Failure, match="still to be deleted") as caught:
        buckets.delete(site.resources, "local")
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_IN_USE


def test_a_datas3t_is_not_added_to_a_bucket_that_is_deleted_concurrently(site: Site) -> None:
    site.delete()
    row = buckets.find(site.resources, "local", "bucket")
    with ThreadPoolExecutor(1) as threads:
        with transaction(site.resources.pool) as conn:
            s3_buckets.locked(conn, "local")
            adding = threads.submit(datas3ts.add, site.resources, "new", "local")
            wait_until(lambda: a_lock_is_awaited(site.resources), what="the insert")
            s3_buckets.delete(conn, row.id)
        with pytest.raises(Failure, match="there is no bucket configuration 'local' any more") as caught:
            adding.result()
    assert caught.value.reason == v1.ERROR_REASON_BUCKET_NOT_FOUND


def test_an_unknown_bucket_is_not_found(resources: Resources) -> None:
    for call in (
        lambda: buckets.delete(resources, "nope"),
        lambda: buckets.update(resources, "nope", "a", "s"),
        lambda: buckets.find(resources, "nope", "bucket"),
    ):
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_BUCKET_NOT_FOUND


def test_credentials_of_another_encryption_key_are_an_error(site: Site, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("UPDATE s3_buckets SET secret_key = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'")
    with pytest.raises(Failure, match="cannot be decrypted") as caught:
        site.start(archive(1, b"content"))
    assert caught.value.reason == v1.ERROR_REASON_CREDENTIALS_UNREADABLE


def test_only_endpoints_that_the_settings_allow_can_be_named(resources: Resources) -> None:
    bounded = dataclasses.replace(resources, allowed_endpoints=AllowedEndpoints(["https://*.example.com", "10.0.0.*"]))
    for field, endpoint in (
        ("endpoint", "https://s3.example.org"),
        ("endpoint", "http://s3.example.com"),
        ("endpoint", "http://10.0.1.1"),
        ("public_endpoint", "http://elsewhere"),
    ):
        settings = SETTINGS | {"endpoint": "http://10.0.0.1:1"} | {field: endpoint}
        with pytest.raises(Failure, match=f"{field} is not one of those that this server allows") as caught:
            buckets.add(bounded, **settings)
        assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    assert rows(resources) == []


def test_configurations_from_before_the_settings_changed_are_not_used(
    site: Site, services: "Services", caplog: pytest.LogCaptureFixture
) -> None:
    bounded = dataclasses.replace(site.resources, allowed_endpoints=AllowedEndpoints(["s3.example.com"]))
    row = buckets.find(bounded, "local", "name")
    with pytest.raises(Failure, match="this server does not allow it with --allow-endpoints") as caught:
        buckets.open_bucket(bounded, row)
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED
    with pytest.raises(Failure, match="does not allow it"):
        buckets.update(bounded, "local", services.s3.access_key, services.s3.secret_key)
    buckets.normalize_endpoints(bounded)
    assert "the endpoint of bucket configuration 'local' is not allowed any more" in caplog.text
