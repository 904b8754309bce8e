"""The worked examples of docs/format.md are what our own code writes and reads."""

import re
from itertools import pairwise
from pathlib import Path

from datas3t.archive import index, names, tar, write
from tests.support.tars import pax

PAGE = (Path(__file__).parents[2] / "docs/format.md").read_text()
CONTENTS = {7: b"hello", 8: b"", 9: b"x" * 600}
PAX_RECORD = b"19 mtime=1700000.5\n"


def packed(key: int, content: bytes) -> bytes:
    """Return the entry of a datapoint."""
    return write.header(names.entry_name(key, "txt"), len(content)) + content + write.padding(len(content))


EXAMPLE = b"".join(packed(key, content) for key, content in CONTENTS.items()) + write.END
PAX_EXAMPLE = pax({b"mtime": b"1700000.5"}) + packed(7, CONTENTS[7]) + write.END


def index_of(raw: bytes) -> bytes:
    """Return the index of an archive."""
    return tar.scan(lambda start, stop: raw[start:stop], len(raw)).index


def test_the_archive_has_the_documented_size_and_headers() -> None:
    assert f"{len(EXAMPLE):,} bytes:" in PAGE
    size, checksum = EXAMPLE[124:135].decode(), EXAMPLE[148:154].decode()
    assert f"name `00000000000000000007.txt`, size `{size}`, checksum `{checksum}`" in PAGE
    assert f"size `{EXAMPLE[1536 + 124 : 1536 + 135].decode()}`, which is octal for 600" in PAGE


def test_the_index_has_the_documented_bytes() -> None:
    documented = re.findall(r"^([0-9a-f]{16}) ([0-9a-f]{4}) ([0-9a-f]{12})$", PAGE, re.MULTILINE)
    assert bytes.fromhex("".join(map("".join, documented))) == index_of(EXAMPLE)


def test_each_row_of_the_example_ends_where_the_next_one_starts() -> None:
    rows = [
        (int(start), int(stop))
        for start, stop in re.findall(r"^\| (\d+)-(\d+) \| (?:header|`|600|end)", PAGE, re.MULTILINE)
    ]
    assert rows[0][0] == 0
    assert all(one[1] + 1 == other[0] for one, other in pairwise(rows))
    assert rows[-1][1] + 1 == len(EXAMPLE)


def test_the_blocks_of_the_pax_example_are_at_the_documented_bytes() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:the PAX header|`19|the header|`hello)", PAGE, re.MULTILINE)
    assert [int(start) for start in rows] == [0, 512, 1024, 1536]
    kind, size = chr(PAX_EXAMPLE[156]), PAX_EXAMPLE[124:135].decode()
    assert f"type `{kind}`, size `{size}`, which is octal for {len(PAX_RECORD)}" in PAGE
    assert PAX_EXAMPLE[512:1024] == PAX_RECORD + bytes(512 - len(PAX_RECORD))
    assert f"`{PAX_RECORD.decode().strip()}`, a newline, and {512 - len(PAX_RECORD)} zero bytes" in PAGE
    assert PAX_EXAMPLE[1024:1048] == b"00000000000000000007.txt"
    assert PAX_EXAMPLE[1536:1541] == b"hello"


def test_the_pax_example_has_the_documented_record() -> None:
    record = index_of(PAX_EXAMPLE)
    position, blocks, size = record[:8].hex(), record[8:10].hex(), record[10:].hex()
    assert f"`{position} {blocks} {size}`" in PAGE
    assert index.entry_at(record, 0).content == range(512 * 3, 512 * 3 + 5)
