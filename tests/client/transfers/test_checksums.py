"""Uploads send checksums, downloads are compared with them; what came without them is read as before."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.archive import checksums, tar
from datas3t.client import ChecksumMismatch, Uploaded
from tests.client.archives import Sample, sample
from tests.client.sites import Site
from tests.support.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

PART = 20 << 20  # bytes, of a multipart upload
VICTIM = 3


@pytest.fixture
def small(tmp_path: Path) -> Sample:
    """Return an archive of five datapoints of 1,000 bytes."""
    return sample(tmp_path / "1.tar", 1, *[1000] * 5)


def in_victim(archive: Sample) -> int:
    """Return a bit of the victim's content."""
    return archive.data.index(archive.contents[VICTIM]) * 8 + 1234


def test_an_upload_sends_checksums(site: Site, small: Sample) -> None:
    site.upload(small)
    (stored,) = site.client.list_dataranges(site.name)
    expected = checksums.encode(map(checksums.crc, small.contents.values()))
    assert site.object(stored.checksums_object_key) == expected == tar.scan_file(small.path, checksums=True).checksums
    assert stored.extension == "bin"


@pytest.mark.parametrize("refused", [False, True])
def test_s3_computes_the_checksum_of_an_archive_unless_it_refuses_parts_for_that(
    relayed: Site, tmp_path: Path, refused: bool
) -> None:
    assert relayed.relay
    large = sample(tmp_path / "large.tar", 1, PART, 1000)
    if refused:
        relayed.relay.plan(Fault(status=400, only=b"partNumber="))
    phases: list[str] = []
    done = relayed.client.upload_tar(
        relayed.name, large.path, progress=lambda phase, *_: phases.append(phase), max_parallelism=1
    )
    assert done == Uploaded(1, 2, len(large.data))
    assert ("upload again" in phases) == refused
    (stored,) = relayed.client.list_dataranges(relayed.name)
    assert relayed.object(stored.object_key) == large.data
    assert relayed.client.datas3t(relayed.name).get_many([1, 2]) == list(large.contents.values())


@pytest.mark.parametrize("sizes", [[1000] * 5, [1000, 0, 5 << 20, 7]], ids=["small", "large"])
def test_a_bit_that_is_wrong_on_the_way_is_fetched_again(relayed: Site, tmp_path: Path, sizes: list[int]) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 1, *sizes)
    relayed.upload(archive)
    relayed.relay.plan(Fault(flip=in_victim(archive), only=b".tar?"))
    relayed.client.download_tar(relayed.name, 1, len(sizes), tmp_path / "out.tar", chunk_size=64 << 20)
    assert not relayed.relay.planned
    assert (tmp_path / "out.tar").read_bytes() == archive.data


def test_a_bit_that_stays_wrong_is_an_error_and_leaves_no_file(relayed: Site, small: Sample, tmp_path: Path) -> None:
    assert relayed.relay
    relayed.upload(small)
    # The bit is in the first content of a download, in no header, and in the content alone when it is fetched again.
    relayed.relay.rule = lambda line: Fault(flip=600 * 8 if b".tar?" in line else None)
    with pytest.raises(ChecksumMismatch) as raised:
        relayed.client.download_tar(relayed.name, 1, 5, tmp_path / "out.tar")
    assert raised.value.key == 1
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_bytes_that_changed_on_disk_before_a_download_went_on_are_fetched_again(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    archive = sample(tmp_path / "1.tar", 1, *[100_000] * 5)
    relayed.upload(archive)
    relayed.relay.rule = lambda line: Fault(status=403 if b".tar?" in line else None)
    relayed.relay.plan(*[Fault(only=b".tar?")] * 4)  # four chunks arrive
    download: Callable[[], object] = lambda: relayed.client.download_tar(  # noqa: E731
        relayed.name, 1, 5, tmp_path / "out.tar", max_parallelism=1, max_retries=0, chunk_size=100_000
    )
    with pytest.raises(Exception, match="403"):
        download()
    (unfinished,) = tmp_path.glob(".*-part")
    with unfinished.open("r+b") as file:
        file.seek(in_victim(archive) // 8)
        file.write(b"wrong")
    relayed.relay.rule = None
    download()
    assert (tmp_path / "out.tar").read_bytes() == archive.data


def test_dataranges_of_older_clients_are_read_and_downloaded_unchecked(
    site: Site, small: Sample, tmp_path: Path
) -> None:
    contents = tar.scan_file(small.path)
    site.upload_unchecked(small.data, contents.index, 1)
    (stored,) = site.client.list_dataranges(site.name)
    assert (stored.checksums_object_key, stored.extension) == ("", "")
    handle = site.client.datas3t(site.name)
    assert handle.get(2) == small.contents[2]
    assert handle.get_many(small.contents) == list(small.contents.values())
    assert [each.content for each in handle.scan()] == list(small.contents.values())
    site.client.download_tar(site.name, 1, 5, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == small.data
