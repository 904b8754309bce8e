"""Imports during a server stop: an import that takes too long is interrupted between two steps, and can be repeated."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from datas3t import v1
from datas3t.server import datas3ts
from datas3t.server.app.server import Server
from datas3t.v1.import_pb2_grpc import ImportServiceStub
from tests.support.faults import Fault, relay
from tests.support.front import http_request
from tests.support.importing import import_bucket, put_archive, rows
from tests.support.serving import serving, settings_for
from tests.support.stack import wait_until
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

NAMES = [f"many-{n:02d}" for n in range(60)]
MESSAGE = "the server stopped before the call was finished; what it has done is kept, so call again"


def over_grpc(server: Server) -> tuple[Any, str]:
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        try:
            return list(ImportServiceStub(channel).Import(v1.ImportRequest(bucket_name="local"))), ""
        except grpc.RpcError as error:
            return error.code(), str(error.details())


def over_rest(server: Server) -> tuple[Any, str]:
    answer = http_request(server.url, "POST", "/api/v1/datas3ts/import", {"bucket_name": "local"})
    return (answer.status, answer.reason), answer.json["message"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [(over_grpc, grpc.StatusCode.UNAVAILABLE), (over_rest, (503, "SHUTTING_DOWN"))],
    ids=["grpc", "rest"],
)
def test_an_import_that_a_server_stop_interrupts_fails_and_a_repeated_one_finishes(
    services: "Services", site: Site, database: str, tmp_path: Path, call: Callable[[Server], object], expected: object
) -> None:
    for name in NAMES:
        put_archive(site, archive(1, b"x"), 1, datas3t=name)
    settings = settings_for(services, database, tmp_path / "server", drain=timedelta(seconds=0.2))
    with relay(services.s3.endpoint) as slow, serving(settings) as server, ThreadPoolExecutor(1) as threads:
        slow.always = Fault(delay=0.1)
        site.set_endpoint(slow.url)
        cut_off = threads.submit(call, server)
        wait_until(lambda: NAMES[3] in imported_names(site), what="the first rows")
        assert server.stop() is False
        assert cut_off.result() == (expected, MESSAGE)
    before = imported_names(site)
    assert len(before) < len(NAMES)
    site.set_endpoint(services.s3.endpoint)
    assert set(import_bucket(site).imported) == set(NAMES) - before
    assert all(len(rows(site, name)) == 1 for name in NAMES)


def imported_names(site: Site) -> set[str]:
    """Return the names of the datas3ts that have a datarange."""
    return {row.datas3t_name for row in datas3ts.page(site.resources, 0, "")[0] if row.datarange_count}
