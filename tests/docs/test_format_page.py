"""The worked example of docs/format.md is what our own code makes."""

import re
from itertools import pairwise
from pathlib import Path

from datas3t.archive import names, tar, write

PAGE = (Path(__file__).parents[2] / "docs/format.md").read_text()
CONTENTS = {7: b"hello", 8: b"", 9: b"x" * 600}


def example() -> bytes:
    pieces = [
        write.header(names.entry_name(key, "txt"), len(content)) + content + write.padding(len(content))
        for key, content in CONTENTS.items()
    ]
    return b"".join(pieces) + write.END


def test_the_archive_has_the_documented_size_and_headers() -> None:
    raw = example()
    assert f"{len(raw):,} bytes:" in PAGE
    size, checksum = raw[124:135].decode(), raw[148:154].decode()
    assert f"name `00000000000000000007.txt`, size `{size}`, checksum `{checksum}`" in PAGE
    assert f"size `{raw[1536 + 124 : 1536 + 135].decode()}`, which is octal for 600" in PAGE


def test_the_index_has_the_documented_bytes() -> None:
    raw = example()
    shown = re.findall(r"^([0-9a-f]{16}) ([0-9a-f]{4}) ([0-9a-f]{12})$", PAGE, re.MULTILINE)
    assert bytes.fromhex("".join(map("".join, shown))) == tar.scan(lambda a, b: raw[a:b], len(raw)).index


def test_every_row_of_the_example_ends_where_the_next_begins() -> None:
    rows = [
        (int(start), int(stop))
        for start, stop in re.findall(r"^\| (\d+)-(\d+) \| (?:header|`|600|end)", PAGE, re.MULTILINE)
    ]
    assert rows[0][0] == 0
    assert all(one[1] + 1 == other[0] for one, other in pairwise(rows))
    assert rows[-1][1] + 1 == len(example())
