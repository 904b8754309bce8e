"""The example of docs/format.md that has a PAX header is what our own code reads."""

import re
from pathlib import Path

from datas3t.archive import index, names, tar, write
from tests.support.tars import pax

PAGE = (Path(__file__).parents[2] / "docs/format.md").read_text()
RECORD = b"19 mtime=1700000.5\n"


def example() -> bytes:
    content = b"hello"
    main = write.header(names.entry_name(7, "txt"), len(content)) + content + write.padding(len(content))
    return pax({b"mtime": b"1700000.5"}) + main + write.END


def test_the_blocks_are_where_the_page_says() -> None:
    raw = example()
    at = [int(start) for start in re.findall(r"^\| (\d+) \| (?:its own|`19|the header|`hello)", PAGE, re.MULTILINE)]
    assert at == [0, 512, 1024, 1536]
    assert f"type `{chr(raw[156])}`, size `{raw[124:135].decode()}`, which is octal for {len(RECORD)}" in PAGE
    assert raw[512:1024] == RECORD + bytes(512 - len(RECORD))
    assert f"`{RECORD.decode().strip()}`, a newline, and {512 - len(RECORD)} zero bytes" in PAGE
    assert raw[1024:1048] == b"00000000000000000007.txt"
    assert raw[1536:1541] == b"hello"


def test_the_record_is_the_one_of_the_page() -> None:
    raw = example()
    found = tar.scan(lambda start, stop: raw[start:stop], len(raw)).index
    position, blocks, size = found[:8].hex(), found[8:10].hex(), found[10:].hex()
    assert f"`{position} {blocks} {size}`" in PAGE
    assert index.entry_at(found, 0).content == range(512 * 3, 512 * 3 + 5)
