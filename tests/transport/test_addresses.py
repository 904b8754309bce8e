"""An engine that is kept from link-local addresses does not connect to them, and does everything else as ever."""

import time

import pytest

from datas3t.transport import Engine, Request, TransferError
from tests.support.httpd import Pattern, httpd


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"])
@pytest.mark.parametrize("request_", [Request("GET", ""), Request("PUT", "", body=b"data")], ids=["GET", "PUT"])
def test_a_link_local_address_is_refused_at_once_and_for_good(request_: Request, host: str) -> None:
    request_.url = f"http://{host}:9000/bucket/key?X-Amz-Signature=hidden"
    started = time.monotonic()
    with Engine(link_local=False) as engine, pytest.raises(TransferError, match="link-local") as caught:
        engine.run([request_], parallelism=1)
    assert not caught.value.retryable
    assert "hidden" not in str(caught.value)
    assert time.monotonic() - started < 5


def test_small_requests_are_refused_too() -> None:
    with Engine(link_local=False) as engine, pytest.raises(TransferError):
        engine.fetch([Request("GET", "http://169.254.169.254/a", 0, 10) for _ in range(100)], parallelism=8)


def test_other_addresses_are_connected_to_and_connections_are_kept() -> None:
    with httpd({"/a": Pattern(1 << 20)}) as server, Engine(link_local=False) as engine:
        for _ in range(3):
            requests = [Request("GET", f"{server.url}/a", at, at + 10) for at in range(100)]
            assert engine.fetch(requests, parallelism=4) == [Pattern(1 << 20)[at : at + 10] for at in range(100)]
        assert server.connections <= 4
        moved = server.url.replace("127.0.0.1", "localhost")
        assert engine.fetch([Request("GET", f"{moved}/a", 0, 10)], parallelism=1) == [Pattern(1 << 20)[0:10]]
