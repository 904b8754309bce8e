"""What web pages may do: those of this server everything, others nothing unless the settings name their origin."""

from collections.abc import Iterator

import pytest

from datas3t import v1
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.settings import Address
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import LOCALHOST, HttpResponse, RunningFront, running_front

_APP = "https://app.example.com"
_EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def front() -> Iterator[RunningFront]:
    rules = CrossSite(LOCALHOST, [_APP], ["datas3t.example", "2001:db8::1"])
    with running_front(cross_site=rules) as running:
        yield running


def send(front: RunningFront, verb: str, path: str, **headers: str) -> HttpResponse:
    """Send a request that adds a bucket or reads a path, as a browser does with text/plain and without preflight."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = b'{"name": "x"}' if verb == "POST" else None
    return front.request(verb, path, raw=raw, headers={"Content-Type": "text/plain", **named})


def own(front: RunningFront) -> str:
    return "{}:{}".format(*front.address)


REFUSED: list[dict[str, str]] = [
    {"Origin": _EVIL},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},  # another port is another origin
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "cross-site", "Origin": _EVIL, "Sec_Fetch_Mode": "no-cors"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"},  # not to a page
    {"Sec_Fetch_Site": "nonsense"},
    {"Sec_Fetch_Site": ""},
    {"Origin": "https://app.example.com.evil.example"},
    {"Origin": "https://app.example.com:444"},
    {"Origin": "http://app.example.com"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8765"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": "datas3t.example.evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},  # a rebound name
]


@pytest.mark.parametrize("headers", REFUSED)
@pytest.mark.parametrize(("verb", "path"), [("POST", "/api/bucket"), ("GET", "/api/v1/buckets")])
def test_a_foreign_page_can_neither_change_nor_read(
    front: RunningFront, verb: str, path: str, headers: dict[str, str]
) -> None:
    response = send(front, verb, path, **headers)
    assert (response.status, response.reason) == (403, "CROSS_SITE")
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": _APP},
        {"Origin": "HTTPS://APP.example.com:443", "Sec_Fetch_Site": "cross-site"},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:8765"},
        {"Host": "[::1]:8765"},
        {"Host": "127.1.2.3"},
        {"Host": "datas3t.example"},
        {"Host": "Datas3t.Example.:443"},
        {"Host": "[2001:db8::1]:8765"},
        {"Host": "localhost:80", "Origin": "http://localhost"},
    ],
)
def test_programs_and_allowed_pages_pass(front: RunningFront, headers: dict[str, str]) -> None:
    assert send(front, "POST", "/api/bucket", **headers).status == 201


def test_a_page_of_this_server_passes_without_sec_fetch_headers(front: RunningFront) -> None:
    assert send(front, "POST", "/api/bucket", Origin=f"http://{own(front)}").status == 201


def test_a_person_may_follow_a_link_to_a_page(front: RunningFront) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert send(front, "GET", "/healthz", **link, Sec_Fetch_Dest="document").status == 200
    assert send(front, "GET", "/healthz", **link, Sec_Fetch_Dest="iframe").status == 403
    assert send(front, "GET", "/healthz", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403


def test_an_allowed_origin_may_ask_first_and_read_responses_and_errors(front: RunningFront) -> None:
    asked = {
        "Origin": _APP,
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "content-type",
        "Access_Control_Request_Private_Network": "true",
        "Sec_Fetch_Site": "cross-site",
    }
    preflight = send(front, "OPTIONS", "/api/bucket", **asked)
    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == _APP
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-allow-private-network"] == "true"
    for path, status in (("/api/bucket", 201), ("/nothing", 404)):
        response = send(front, "POST", path, Origin=_APP, Sec_Fetch_Site="cross-site")
        assert (response.status, response.headers["access-control-allow-origin"]) == (status, _APP)
        assert response.headers["vary"] == "Origin"
    assert send(front, "GET", "/api/bucket").headers["vary"] == "Origin"


def test_a_foreign_origin_that_asks_first_is_refused(front: RunningFront) -> None:
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {}):
        preflight = send(front, "OPTIONS", "/api/bucket", Origin=_EVIL, Access_Control_Request_Method="POST", **headers)
        assert preflight.status == 403
        assert "access-control-allow-origin" not in preflight.headers


def test_a_page_cannot_send_grpc_over_http_1(front: RunningFront) -> None:
    headers = {"Content_Type": "application/grpc", "Origin": _EVIL}
    assert send(front, "POST", "/datas3t.v1.BucketService/AddBucket", **headers).status == 403
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        stub.AddBucket(v1.AddBucketRequest(name="x"), metadata=(("origin", _EVIL),))


def test_without_names_a_server_on_all_interfaces_takes_any_host() -> None:
    rules = CrossSite(Address("", 0))
    with running_front(cross_site=rules) as front:
        assert send(front, "POST", "/api/bucket", Host="anything.example").status == 201
        same = {"Host": "anything.example", "Origin": "https://anything.example"}
        assert send(front, "POST", "/api/bucket", **same).status == 201
        assert send(front, "POST", "/api/bucket", Host="anything.example", Origin=_EVIL).status == 403


def test_with_names_a_server_on_all_interfaces_takes_only_those() -> None:
    with running_front(cross_site=CrossSite(Address("", 0), hosts=["datas3t.example"])) as front:
        assert send(front, "POST", "/api/bucket", Host="datas3t.example").status == 201
        assert send(front, "POST", "/api/bucket", Host="anything.example").status == 403
