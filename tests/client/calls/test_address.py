"""The server's address, from a URL, the environment or the default, and the proxy on the way to it."""

from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client
from datas3t.client._calls.connection import resolve_address
from datas3t.client.errors import InvalidArgument, Unavailable
from datas3t.embedded.ports import free_ports

if TYPE_CHECKING:
    from datas3t.server.app.server import Server


@pytest.mark.parametrize(
    ("url", "target", "tls"),
    [
        ("http://localhost:8765", "localhost:8765", False),
        ("http://data.example.org", "data.example.org:80", False),
        ("https://data.example.org/", "data.example.org:443", True),
        ("https://data.example.org:8443", "data.example.org:8443", True),
        ("http://[::1]:8765", "[::1]:8765", False),
        ("http://[::1]", "[::1]:80", False),
    ],
)
def test_the_scheme_decides_tls_and_the_default_port(url: str, target: str, tls: bool) -> None:
    resolved = resolve_address(url)
    assert (resolved.target, resolved.tls) == (target, tls)


def test_without_a_url_the_environment_counts_and_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAS3T_SERVER_URL", "https://from.the.environment")
    assert resolve_address().target == "from.the.environment:443"
    assert resolve_address("http://given:1").target == "given:1"
    monkeypatch.delenv("DATAS3T_SERVER_URL")
    assert resolve_address().target == "localhost:8765"


@pytest.mark.parametrize(
    "url", ["localhost:8765", "ftp://host", "http://", "http://host/path", "http://u:p@host", "http://host:99999"]
)
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="server URL"):
        resolve_address(url)


def test_calls_to_this_machine_go_through_no_proxy(server: "Server", monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_ports(1)[0]}")
    for variable in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Client(server.url.replace("127.0.0.1", "localhost")) as client:
        assert isinstance(client.list_buckets(), list)


def test_a_proxy_in_between_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    for variable in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Client("http://data.example:8765") as client, pytest.raises(Unavailable, match="proxy that http_proxy names"):
        client.list_buckets()
