"""The audit log: a line for each call that changes something or is refused, and nothing in it that should not be."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datas3t import v1
from datas3t.server.access import Audit
from datas3t.server.front.rpc.interceptor import client_of
from datas3t.v1 import datarange_pb2, datas3t_pb2
from tests.support.access import GuardedFront, guarded_front

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

CLEAR = "/api/v1/datas3ts/clear"
UPLOADS = datarange_pb2.DESCRIPTOR.services_by_name["DatarangeService"].methods_by_name
DATAS3TS = datas3t_pb2.DESCRIPTOR.services_by_name["Datas3tService"].methods_by_name


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def site(services: "Services", database: str, tmp_path: Path, log: Path) -> Iterator[GuardedFront]:
    audit = Audit(log)
    with guarded_front(database, services.encryption_key, tmp_path / "cache", "photos-1", "secret-1", audit) as front:
        yield front
    audit.close()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_call_that_changes_something_is_a_line_with_who_what_and_how_it_ended(site: GuardedFront, log: Path) -> None:
    token = site.token("manage", name="ci")
    site.rest("POST", CLEAR, f"Bearer {token}", {"name": "photos-1"})
    (line,) = lines(log)
    assert line.pop("time").endswith("Z")
    assert len(line.pop("request_id")) == 32
    assert line.pop("peer").startswith("127.0.0.1:")
    assert line == {
        "kind": "token",
        "token": "ci",
        "token_id": int(token.split("_")[1]),
        "method": "datas3t.v1.Datas3tService/ClearDatas3t",
        "transport": "rest",
        "datas3t": "photos-1",
        "target": "",
        "outcome": "UNAVAILABLE SERVER_BUSY",
    }
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_calls_that_only_read_are_not_in_it_unless_they_are_refused(site: GuardedFront, log: Path) -> None:
    token = f"Bearer {site.token('read', 'photos-*')}"
    listing = DATAS3TS["ListDatas3ts"]
    site.grpc(listing, v1.ListDatas3tsRequest(), token)
    assert lines(log) == []
    site.grpc(listing, v1.ListDatas3tsRequest(), None)
    site.grpc(DATAS3TS["GetDatapointsBitmap"], v1.GetDatapointsBitmapRequest(datas3t_name="secret-1"), token)
    site.grpc(UPLOADS["StartUpload"], v1.StartUploadRequest(datas3t_name="photos-1"), token)
    site.rest("GET", "/metrics", None)
    found = [(line["method"].partition("/")[2], line["datas3t"], line["outcome"]) for line in lines(log)]
    assert found == [
        ("ListDatas3ts", "", "UNAUTHENTICATED TOKEN_MISSING"),
        ("GetDatapointsBitmap", "secret-1", "PERMISSION_DENIED ACCESS_DENIED"),
        ("StartUpload", "", "PERMISSION_DENIED ACCESS_DENIED"),
        ("", "", "UNAUTHENTICATED"),
    ]


def test_a_call_with_a_foreign_id_names_the_datas3t_that_it_is_of(site: GuardedFront, log: Path) -> None:
    number = site.ids("datarange_upload_id", "secret-1")
    request = v1.CancelUploadRequest(datarange_upload_id=number)
    site.grpc(UPLOADS["CancelUpload"], request, f"Bearer {site.token('write', 'photos-*', name='x')}")
    (line,) = lines(log)
    assert (line["token"], line["datas3t"], line["outcome"]) == ("x", "secret-1", "NOT_FOUND UPLOAD_NOT_FOUND")


def test_over_grpc_the_peer_is_the_client_and_not_the_relay(site: GuardedFront, log: Path) -> None:
    site.grpc(DATAS3TS["ListDatas3ts"], v1.ListDatas3tsRequest(), None)
    (line,) = lines(log)
    host, _, port = line["peer"].rpartition(":")
    assert (host, int(port) > 1024) == ("127.0.0.1", True)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv6:%5B::1%5D:80", "[::1]:80"),
        ("ipv4:10.0.0.1:80", "10.0.0.1:80"),
        ("unix:", ""),
        ("unix-abstract:d/0/a:1", "a:1"),
    ],
)
def test_the_peer_is_an_address(peer: str, client: str) -> None:
    assert client_of(peer) == client


def test_no_name_forges_a_line_and_no_token_is_in_it(site: GuardedFront, log: Path) -> None:
    token = site.token("manage")
    for name in ('photos-1\n{"time": "now"}', "x" * 100_000, "\u202e" * 10, token):
        site.rest("POST", CLEAR, f"Bearer {token}", {"name": name})
        site.rest("POST", "/api/v1/tokens/revoke", f"Bearer {token}x\u00e9", {"name": name})
    assert len(lines(log)) == 8
    assert token.rpartition("_")[2] not in log.read_text()
    assert max(map(len, log.read_text().splitlines())) < 1_000


def test_a_file_that_was_rotated_is_opened_again(site: GuardedFront, log: Path) -> None:
    site.rest("POST", CLEAR, None, {})
    log.rename(log.with_suffix(".1"))
    site.rest("POST", CLEAR, None, {})
    assert (len(lines(log)), len(lines(log.with_suffix(".1")))) == (1, 1)


def test_without_a_file_it_is_with_the_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit()
    audit.note(
        identity=None, method="m", transport="grpc", target="", datas3t="", request_id="r", peer="", outcome="OK"
    )
    audit.close()
    (record,) = caplog.records
    assert record.name == "datas3t.audit"
    assert json.loads(record.getMessage())["request_id"] == "r"
