"""Completions that take S3 long, or whose response is lost: an upload is not treated as lost while S3 may join it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server import uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.s3.clients import PATIENT_CONFIG
from tests.support.store_proxy import StoreProxy, Ways, store_proxy
from tests.support.uploads import Site, large_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.fixture
def proxy(services: "Services", site: Site) -> Iterator[StoreProxy]:
    """Return a proxy in front of S3, which answers to completions with an error and joins the parts later."""
    with store_proxy(services.s3.endpoint, Ways(completion_deferred=True)) as proxy:
        site.set_endpoint(proxy.url)
        yield proxy


def sent_at(site: Site) -> object:
    """Return when S3 was last asked to join the parts."""
    with connection(site.resources.pool) as conn:
        row = conn.execute("SELECT completion_sent_at FROM datarange_uploads").fetchone()
    assert row is not None
    return row[0]


def reason_of(site: Site, sent: tuple[int, list[str]]) -> int:
    """Return the reason for which a completion fails."""
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, *sent)
    return caught.value.reason


def test_an_upload_that_s3_joins_late_is_not_lost(site: Site, proxy: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    noted: list[object] = []
    proxy.on_completion = lambda: noted.append(sent_at(site))
    assert sent_at(site) is None
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    assert len(noted) == 1  # it is not repeated
    assert noted[0] is not None  # and noted before
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE  # in the meantime S3 returns NoSuchUpload
    assert len(noted) == 1
    proxy.finish_completions()
    uploads.complete(site.resources, *sent)
    uploads.complete(site.resources, *sent)
    assert len(site.objects()) == 2


def test_an_upload_that_s3_never_joins_is_lost_when_that_is_certain(site: Site, proxy: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '59 minutes'")
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '2 minutes'")
    assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def test_an_upload_that_is_gone_is_lost_at_once_where_the_store_lists_no_parts(
    site: Site, services: "Services"
) -> None:
    sent = site.send(large_archive(1))
    with connection(site.resources.pool) as conn:
        ((key, s3_upload_id),) = conn.execute("SELECT data_object_key, s3_upload_id FROM datarange_uploads").fetchall()
    site.s3.abort_multipart_upload(Bucket=site.bucket, Key=key, UploadId=s3_upload_id)
    with store_proxy(services.s3.endpoint, Ways(no_list_parts=True)) as proxy:
        site.set_endpoint(proxy.url)
        assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def test_repeated_calls_do_not_put_off_the_hour_where_the_store_lists_no_parts(
    site: Site, services: "Services"
) -> None:
    ways = Ways(no_list_parts=True, completion_deferred=True)
    with store_proxy(services.s3.endpoint, ways) as proxy:
        site.set_endpoint(proxy.url)
        sent = site.send(large_archive(1))
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
        first = sent_at(site)
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
        assert sent_at(site) == first
        with connection(site.resources.pool) as conn:
            conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '61 minutes'")
        assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def test_a_completion_has_15_minutes_and_one_attempt() -> None:
    assert PATIENT_CONFIG.read_timeout == 900  # type: ignore[attr-defined]
    assert PATIENT_CONFIG.retries == {"mode": "standard", "total_max_attempts": 1}  # type: ignore[attr-defined]
