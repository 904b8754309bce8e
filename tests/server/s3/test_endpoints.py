"""Endpoints: every spelling of one is the same, and what leads to no S3 is refused."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.endpoints import AllowedEndpoints, normalized
from datas3t.transport import is_link_local


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("HTTP://S3.Example.com:80/", "http://s3.example.com"),
        ("https://s3.example.com:443", "https://s3.example.com"),
        ("https://s3.example.com:", "https://s3.example.com"),
        ("https://s3.example.com//", "https://s3.example.com"),
        ("https://s3.example.com?", "https://s3.example.com"),
        ("https://s3.example.com/#", "https://s3.example.com"),
        ("https://s3.example.com/?#", "https://s3.example.com"),
        ("https://s3.example.com.", "https://s3.example.com"),
        ("http://s3.example.com:09000", "http://s3.example.com:9000"),
        ("http://s3_local:443", "http://s3_local:443"),
        ("https://[::1]:9000", "https://[::1]:9000"),
        ("https://[2001:DB8:0:0::0001]", "https://[2001:db8::1]"),
        ("http://[::ffff:1.2.3.4]", "http://1.2.3.4"),
        ("http://[::ffff:102:304]:80", "http://1.2.3.4"),
        ("http://127.1", "http://127.0.0.1"),
        ("http://127.0.1", "http://127.0.0.1"),
        ("http://2130706433:9000", "http://127.0.0.1:9000"),
        ("http://0x7F000001", "http://127.0.0.1"),
        ("http://0x7f.0.0.01", "http://127.0.0.1"),
        ("http://0177.0.0.1.", "http://127.0.0.1"),
        ("http://1e100.net", "http://1e100.net"),
        ("http://10.example", "http://10.example"),
    ],
)
def test_an_endpoint_has_one_spelling(given: str, stored: str) -> None:
    assert normalized(given) == stored
    assert normalized(stored) == stored


@pytest.mark.parametrize(
    "given",
    [
        "",
        "s3.example.com",
        "//s3.example.com",
        "ftp://s3.example.com",
        "http:s3.example.com",
        "http://",
        "http://?",
        "http://:80",
        "http://@s3.example.com",
        "http://user:hidden@s3.example.com",
        "http://s3.example.com/path",
        "http://s3.example.com?x=1",
        "http://s3.example.com#x",
        "http://s3.example.com:0",
        "http://s3.example.com:65536",
        "http://s3.example.com:+1",
        "http://s3.exa\nmple.com",
        "http://s3.exa\tmple.com",
        " http://s3.example.com",
        "http://s3.example.com ",
        "http://s3.example.com\\@other",
        "http://s3..example.com",
        "http://.example.com",
        f"http://{'a' * 64}.com",
        f"http://{'a.' * 127}com",
        "http://１２７.0.0.1",
        "http://%31.0.0.1",
        "http://1.2.3.4.5",
        "http://256.1",
        "http://1.2.3.08",
        "http://4294967296",
        "http://s3.1",
        "http://[::1",
        "http://[::1]9000",
        "http://[fe80::1%25eth0]",
        "http://[1.2.3.4]",
        "http://0",
        "http://0.0.0.0:9000",
        "http://[::]",
        "http://[::ffff:0.0.0.0]",
        "http://224.0.0.1",
        "http://255.255.255.255",
    ],
)
def test_what_is_no_endpoint_is_refused(given: str) -> None:
    with pytest.raises(Failure) as caught:
        normalized(given)
    assert (caught.value.reason, caught.value.metadata) == (v1.ERROR_REASON_INVALID_VALUE, {"field": "endpoint"})
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1",
        "0xA9FEA9FE",
        "2852039166",
        "0251.0376.0251.0376",
        "[fe80::1]",
        "[FEBF::1]",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[::ffff:100.100.100.200]",
    ],
)
def test_a_link_local_address_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(Failure, match="link-local"):
        normalized(f"http://{host}:9000/")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "2001:db8::1", "64:ff9b::102:304", "/tmp/socket"])
def test_other_addresses_are_not_link_local(address: str) -> None:
    assert not is_link_local(address)


@pytest.mark.parametrize(
    ("pattern", "endpoint", "allowed"),
    [
        ("s3.example.com", "https://s3.example.com", True),
        ("s3.example.com", "http://s3.example.com", True),
        ("s3.example.com", "https://s3.example.com:9000", False),
        ("s3.example.com:*", "https://s3.example.com:9000", True),
        ("S3.Example.com", "https://s3.example.com", True),
        ("s3.example.com", "https://s3xexample.com", False),
        ("*.example.com", "https://a.b.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com", "https://s3.example.com.evil.org", False),
        ("https://*", "http://s3.example.com", False),
        ("https://*", "https://s3.example.com", True),
        ("*://s3.example.com:9000", "http://s3.example.com:9000", True),
        ("[2001:db8::*]:9000", "http://[2001:db8::1]:9000", True),
        ("[2001:db8::*]:9000", "http://2", False),
    ],
)
def test_a_pattern_is_compared_with_the_whole_endpoint(pattern: str, endpoint: str, allowed: bool) -> None:
    assert (normalized(endpoint) in AllowedEndpoints([pattern])) is allowed
    assert (normalized(endpoint) in AllowedEndpoints(["nowhere", pattern])) is allowed
    assert normalized(endpoint) in AllowedEndpoints()


def test_a_zone_does_not_hide_a_link_local_address() -> None:
    assert is_link_local("fe80::1%eth0")


_number = st.integers(0, 255).flatmap(lambda n: st.sampled_from([str(n), hex(n), f"0{n:o}"]))


@given(st.lists(_number, min_size=1, max_size=4))
def test_addresses_are_read_as_the_system_reads_them(numbers: list[str]) -> None:
    text = ".".join(numbers)
    address = ipaddress.IPv4Address(socket.inet_aton(text))
    try:
        assert normalized(f"http://{text}") == f"http://{address}"
    except Failure:
        assert address.is_link_local or address.is_unspecified or address.is_multicast or int(address) == 2**32 - 1
