"""Archives with a wrong entry that completion did not find: no reader returns the entry."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from datas3t.archive import index, tar
from datas3t.client import ArchiveError
from tests.client.archives import sample
from tests.client.sites import Site
from tests.support.stack import wait_until
from tests.support.tars import archive, raw_header

COUNT, WRONG = 1500, 701  # datapoints, and the key of the wrong one: few archives have it in the sample


def with_wrong_header(dialect: str, change: Callable[[bytearray, int], None], first: int = 1) -> tuple[bytes, bytes]:
    """Return an archive of more than 4 MiB in which one main header was changed, and the index of the right one."""
    contents = [random.Random(key).randbytes(2000 + 1500 * (key % 2)) for key in range(COUNT)]
    right = archive(first, contents, dialect=dialect)
    scanned = tar.scan(lambda start, stop: right[start:stop], len(right))
    entry = index.entry_at(scanned.index, WRONG - first)
    wrong = bytearray(right)
    change(wrong, entry.content.start - 512)
    return bytes(wrong), scanned.index


def damaged(raw: bytearray, at: int) -> None:
    """Change a byte, so that the checksum does not match."""
    raw[at + 300] ^= 1


def renamed(raw: bytearray, at: int) -> None:
    """Give the entry another key."""
    raw[at : at + 512] = raw_header(b"%020d.bin" % (WRONG + 1), int(raw[at + 124 : at + 135], 8))


def shortened(raw: bytearray, at: int) -> None:
    """Give the entry another size in as many blocks, so that the archive is one that any program reads."""
    raw[at : at + 512] = raw_header(b"%020d.bin" % WRONG, int(raw[at + 124 : at + 135], 8) - 1)


CHANGES = {"damaged": damaged, "renamed": renamed, "shortened": shortened}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dialect", ["ustar", "pax"])
def test_a_download_refuses_a_wrong_entry(site: Site, tmp_path: Path, dialect: str, change: str) -> None:
    data, records = with_wrong_header(dialect, CHANGES[change])
    site.upload_unchecked(data, records, 1)
    with pytest.raises(ArchiveError, match=r"index of datarange 1 to 1500 does not fit its archive: .*; delete the"):
        site.client.download_tar(site.name, 1, COUNT, tmp_path / "out.tar")
    assert not list(tmp_path.glob("*out.tar*"))
    for first, last in ((1, WRONG - 1), (WRONG + 1, COUNT)):
        site.client.download_tar(site.name, first, last, tmp_path / "out.tar")
        assert tar.scan_file(tmp_path / "out.tar", first_key=first).last_key == last


@pytest.mark.parametrize("change", CHANGES)
def test_an_aggregate_refuses_a_wrong_entry(site: Site, tmp_path: Path, change: str) -> None:
    data, records = with_wrong_header("ustar", CHANGES[change])
    site.upload_unchecked(data, records, 1)
    site.upload(sample(tmp_path / "other.tar", COUNT + 1, 5, 6))
    with pytest.raises(ArchiveError, match=r"does not fit its archive: .*; delete the datarange and upload it again"):
        site.client.aggregate(site.name, 1, COUNT + 2)
    assert [each.first for each in site.client.list_dataranges(site.name)] == [1, COUNT + 1]
    assert site.aggregate_journal(1, COUNT + 2).read() is None
    wait_until(lambda: not site.multiparts())
