"""The checksums object, compared with the definition of CRC-32C and with records made by hand."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import checksums, names


def by_definition(content: bytes, crc: int = 0) -> int:
    """Return the CRC-32C, bit by bit: the polynomial 0x1EDC6F41, reflected."""
    crc ^= 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# RFC 3720, B.4, and the check value of the CRC catalogue
@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_crc_is_castagnolis(content: bytes, crc: int) -> None:
    assert checksums.crc(content) == by_definition(content) == crc


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_crc_is_continued_and_needs_no_copy(content: bytes, at: int) -> None:
    view = memoryview(bytearray(content))
    assert checksums.crc(view[at:], checksums.crc(view[:at])) == by_definition(content)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_records_are_four_bytes_in_the_order_of_the_keys(contents: list[bytes]) -> None:
    expected = b"".join(struct.pack(">I", by_definition(content)) for content in contents)
    stops = [sum(map(len, contents[: n + 1])) for n in range(len(contents))]
    starts = [0, *stops][: len(contents)]
    assert checksums.of_contents(b"".join(contents), starts, stops) == expected
    assert checksums.encode(map(checksums.crc, contents)) == expected
    assert checksums.decode(expected).tolist() == list(map(checksums.crc, contents))
    for number, content in enumerate(contents):
        assert checksums.crc_at(expected, number) == checksums.crc(content)


def test_checksums_are_beside_their_archive() -> None:
    archive = names.archive_key("photos", 1, 20, 3)
    assert names.checksums_key(archive) == archive.removesuffix(".tar") + ".crc32c"
