"""The test of a new bucket configuration names what is wrong: endpoint, bucket, region or credentials."""

import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.check import check
from datas3t.server.s3.locations import Location
from tests.support.canned import CannedResponse, canned_server, s3_error

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

Reason: TypeAlias = v1.ErrorReason.ValueType

UNREACHABLE = Location("http://127.0.0.1:1", "my-bucket", "us-east-1", "THE-ACCESS-KEY", "THE-SECRET-KEY")


@pytest.fixture
def location(services: "Services", bucket: str) -> Location:
    s3 = services.s3
    return Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key)


def failure_of(location: Location) -> Failure:
    """Return the failure that checking the location raises, whose message is one line without secrets."""
    with pytest.raises(Failure) as caught:
        check(location)
    assert "\n" not in caught.value.message
    for secret in (location.access_key, location.secret_key, "Signature"):
        assert secret not in caught.value.message
    return caught.value


def test_a_working_location_passes_whether_its_bucket_is_empty_or_not(location: Location, services: "Services") -> None:
    check(location)
    services.seaweedfs.client().put_object(Bucket=location.bucket, Key="a", Body=b"x")
    check(location)


WRONG: list[tuple[dict[str, str], Reason, str]] = [
    ({"bucket": "no-such-bucket"}, v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, "there is no bucket 'no-such-bucket'"),
    ({"secret_key": "wrong"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "the secret key is wrong"),
    ({"access_key": "unknown"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "the access key is unknown"),
    ({"endpoint": "http://127.0.0.1:1"}, v1.ERROR_REASON_ENDPOINT_UNREACHABLE, "no server responds"),
    ({"endpoint": "http://no-such-host.invalid"}, v1.ERROR_REASON_ENDPOINT_UNREACHABLE, "no server responds"),
]


@pytest.mark.parametrize(("changes", "reason", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_found_with_a_real_s3(
    location: Location, changes: dict[str, str], reason: Reason, message: str
) -> None:
    with pytest.raises(Failure, match=message) as caught:
        check(replace(location, **changes))
    assert caught.value.reason == reason
    assert location.secret_key not in caught.value.message


def test_https_for_a_server_without_tls_is_an_error_about_tls(location: Location) -> None:
    failure = failure_of(replace(location, endpoint=location.endpoint.replace("http:", "https:")))
    assert "TLS fails" in failure.message


NOT_S3 = [
    CannedResponse(body="<!doctype html><p>Welcome", content_type="text/html"),
    CannedResponse(body='{"status": "ok"}', content_type="application/json"),
    CannedResponse(body="<a/>"),
    CannedResponse(),
    CannedResponse(301, "<p>elsewhere", "text/html", {"Location": "/elsewhere"}),
    CannedResponse(400, "this port wants TLS", "text/plain"),
    CannedResponse(403, "<p>forbidden", "text/html"),
    CannedResponse(404, "<p>not found", "text/html"),
]


@pytest.mark.parametrize("response", NOT_S3, ids=lambda response: f"{response.status} {response.body[:8]}")
def test_a_server_that_does_not_speak_s3_is_recognized(response: CannedResponse) -> None:
    with canned_server(lambda _: response) as (endpoint, _):
        failure = failure_of(replace(UNREACHABLE, endpoint=endpoint))
    assert failure.reason == v1.ERROR_REASON_ENDPOINT_UNREACHABLE
    assert "does not speak S3" in failure.message


S3_ERRORS: list[tuple[CannedResponse, Reason, str]] = [
    (
        s3_error("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1"),
        v1.ERROR_REASON_S3_BUCKET_NOT_FOUND,
        "eu-west-1",
    ),
    (s3_error("PermanentRedirect", 301), v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, "check the region"),
    (
        s3_error("AuthorizationHeaderMalformed", 400, "<Region>eu-west-1</Region>"),
        v1.ERROR_REASON_S3_BUCKET_NOT_FOUND,
        "it is in region eu-west-1",
    ),
    (s3_error("AccessDenied", 403), v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "no permission to list the bucket"),
    (s3_error("RequestTimeTooSkewed", 403), v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "the clocks"),
    (s3_error("AccountProblem", 403), v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "AccountProblem"),
    (s3_error("InternalError", 500), v1.ERROR_REASON_S3_UNAVAILABLE, "InternalError"),
    (s3_error("SlowDown", 503), v1.ERROR_REASON_S3_UNAVAILABLE, "SlowDown"),
    (CannedResponse(503, "<p>back soon", "text/html"), v1.ERROR_REASON_S3_UNAVAILABLE, "503"),
]


@pytest.mark.parametrize(("response", "reason", "message"), S3_ERRORS, ids=lambda value: str(value)[:60])
def test_errors_that_only_other_stores_return_are_understood(
    response: CannedResponse, reason: Reason, message: str
) -> None:
    with canned_server(lambda _: response) as (endpoint, _):
        failure = failure_of(replace(UNREACHABLE, endpoint=endpoint))
    assert failure.reason == reason
    assert message in failure.message


def test_a_server_that_closes_the_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(2):  # the request and its retry
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        failure = failure_of(replace(UNREACHABLE, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()
    assert failure.reason == v1.ERROR_REASON_ENDPOINT_UNREACHABLE
