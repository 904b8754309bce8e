"""Archives whose bytes follow from the sizes of their contents."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import index, layout, names, tar, write
from datas3t.archive.joined_crc import joined

EXTENSIONS = ["jpg", "json.zst", "é", "x" * 100, "b"]


def laid_out(first: int, sizes: list[int], kinds: list[int] | None = None) -> layout.Layout:
    return layout.Layout(first, np.array(sizes, np.int64), np.array(kinds or [0] * len(sizes), np.uint32), EXTENSIONS)


@given(
    st.integers(0, names.MAX_KEY - 10),
    st.lists(st.tuples(st.integers(0, 1 << 45), st.integers(0, 4)), min_size=1, max_size=8),
)
def test_the_headers_are_those_that_are_written_one_by_one(first: int, entries: list[tuple[int, int]]) -> None:
    made = laid_out(first, [size for size, _ in entries], [kind for _, kind in entries])
    expected = [
        write.header(names.entry_name(key, EXTENSIONS[kind]), size) for key, (size, kind) in enumerate(entries, first)
    ]
    assert made.headers(0, len(entries)) == expected
    assert made.headers(1, len(entries)) == expected[1:]


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_index_and_the_size_are_those_of_the_archive(entries: list[tuple[int, int]]) -> None:
    made = laid_out(7, [size for size, _ in entries], [kind for _, kind in entries])
    raw = b"".join(
        header + bytes(size) + write.padding(size)
        for header, (size, _) in zip(made.headers(0, len(entries)), entries, strict=True)
    )
    archive = raw + write.END
    contents = tar.scan(lambda start, stop: archive[start:stop], len(archive))
    assert (made.size, made.entries_end, made.last) == (len(archive), len(raw), 6 + len(entries))
    assert (contents.first_key, contents.index) == (7, made.index())
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert [member.size for member in opened] == [size for size, _ in entries]


def test_a_content_of_terabytes_fits() -> None:
    size = (5 << 40) - 10_000
    made = laid_out(1, [size, 1])
    assert [entry.size for entry in index.decode(made.index())] == [size, 1]
    assert index.check(made.index(), made.size) == made.entries_end


def test_an_extension_is_named_if_all_contents_have_it() -> None:
    assert laid_out(1, [1, 2], [1, 1]).extension == "json.zst"
    assert laid_out(1, [1, 2], [1, 0]).extension is None


def crc32c(content: bytes) -> int:
    """Compute the CRC bit by bit."""
    remainder = 0xFFFFFFFF
    for byte in content:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_the_crc_of_pieces_is_joined(cut: int) -> None:
    content = b"123456789"
    assert joined(crc32c(content[:cut]), crc32c(content[cut:]), 9 - cut) == 0xE3069283


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_joining_does_not_depend_on_the_order(one: bytes, two: bytes, three: bytes) -> None:
    whole = crc32c(one + two + three)
    late = joined(crc32c(one), joined(crc32c(two), crc32c(three), len(three)), len(two) + len(three))
    early = joined(joined(crc32c(one), crc32c(two), len(two)), crc32c(three), len(three))
    assert whole == late == early
