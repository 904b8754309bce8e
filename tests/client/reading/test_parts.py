"""Parts of contents, and contents as open files."""

import io
import random
import zipfile
from pathlib import Path

import pytest

from datas3t.archive import tar
from datas3t.archive.index import RECORD, RECORD_SIZE
from datas3t.client import ArchiveError, DatapointNotFound, InvalidArgument, KeySet
from tests.client.archives import sample
from tests.client.reading.archive_host import ArchiveHost
from tests.client.sites import Site
from tests.support import tars

SIZES = [0, 1, 600, 5_000, 9 << 20, 100_000]


@pytest.fixture
def contents(site: Site, tmp_path: Path) -> dict[int, bytes]:
    both = [sample(tmp_path / f"{first}.tar", first, *sizes) for first, sizes in ((10, SIZES), (50, SIZES[:4]))]
    for each in both:
        site.upload(each)
    return {key: content for each in both for key, content in each.contents.items()}


def test_parts_are_those_of_the_contents(site: Site, contents: dict[int, bytes]) -> None:
    handle, chosen = site.client.datas3t(site.name), random.Random(1)
    parts: list[tuple[int, int, int]] = []
    for key, content in contents.items():
        for _ in range(4):
            start = chosen.randint(0, len(content) + 5)
            parts.append((key, start, chosen.randint(start, len(content) + 10)))
        parts += [(key, 0, min(len(content), 50_000)), (key, len(content), 2**70), (key, 0, 0)]
    parts.append((14, 5, 9 << 20))  # more than one request may have
    chosen.shuffle(parts)
    assert handle.read_many(parts) == [contents[key][start:stop] for key, start, stop in parts]
    assert handle.read_many([]) == []
    assert handle.read(13, 7, 4_000) == contents[13][7:4_000]
    assert handle.at(KeySet([13])).read(13, 0, 9) == contents[13][:9]


def test_what_is_no_part_is_refused(site: Site, contents: dict[int, bytes]) -> None:
    handle = site.client.datas3t(site.name)
    for start, stop in ((-1, 2), (3, 2)):
        with pytest.raises(InvalidArgument):
            handle.read(10, start, stop)
    for key in (9, 2**70):
        with pytest.raises(DatapointNotFound):
            handle.read(key, 0, 1)
        with pytest.raises(DatapointNotFound):
            handle.open(key)
    with pytest.raises(InvalidArgument):
        handle.open(10, block_size=0)
    with pytest.raises(DatapointNotFound):
        handle.at(KeySet([13])).read(12, 0, 9)


def test_an_open_datapoint_is_a_file(site: Site, contents: dict[int, bytes]) -> None:
    handle, content = site.client.datas3t(site.name), contents[15]
    with handle.open(15, block_size=1000) as file:
        assert (file.key, file.size, file.name.partition(".")[0]) == (15, len(content), f"{15:020d}")
        assert file.read(10) == content[:10]
        assert file.seek(-7, io.SEEK_END) == len(content) - 7
        assert file.read() == content[-7:]
        assert file.read(5) == b""
        assert file.seek(500) == 500
        assert file.seek(3, io.SEEK_CUR) == 503
        assert file.read(3000) == content[503:3503]
        assert file.tell() == 3503
        file.seek(len(content) + 10)
        assert file.read() == b""
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)
    assert handle.open(10).read() == b""
    assert handle.open(14).read() == contents[14]


def test_a_zip_file_is_read_in_place(site: Site, tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for number in range(50):
            archive.writestr(f"{number}.txt", f"text {number}" * 100)
    (tmp_path / "zip.tar").write_bytes(tars.archive(7, [whole.getvalue()]))
    site.client.upload_tar(site.name, tmp_path / "zip.tar")
    with zipfile.ZipFile(site.client.datas3t(site.name).open(7, block_size=4096)) as archive:
        assert archive.read("33.txt").startswith(b"text 33text 33")


def test_a_header_is_compared_once(host: ArchiveHost) -> None:
    handle = host.handle(tars.archive(7, [b"a" * 600, b"b" * 9_000_000]))
    assert handle.read(8, 8_000_000, 8_000_003) == b"bbb"
    archives = [seen for seen in host.server.requests if not seen.path.endswith(".index")]
    assert len(archives) == 2
    assert handle.read(8, 4_000_000, 4_000_002) == b"bb"
    assert len([seen for seen in host.server.requests if not seen.path.endswith(".index")]) == 3


def test_an_index_that_does_not_fit_is_an_error(host: ArchiveHost) -> None:
    archive = tars.archive(7, [b"a" * 600, b"b" * 600])
    right = tar.scan(lambda start, stop: archive[start:stop], len(archive)).index
    handle = host.handle(archive, index=RECORD.pack(0, 1, 0, 700) + right[RECORD_SIZE:])
    assert handle.read(8, 1, 3) == b"bb"
    with pytest.raises(ArchiveError):
        handle.read(7, 1, 3)
    with pytest.raises(ArchiveError):
        handle.open(7)
