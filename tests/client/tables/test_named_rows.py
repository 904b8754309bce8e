"""An archive is uploaded together with the names of its files."""

import os
from pathlib import Path

import pytest

from datas3t.archive import checksums
from datas3t.client import FileError, InvalidArgument, Unavailable, pack
from datas3t.client._transfers.open_upload import OpenUpload
from tests.client.sites import Site

NAMES = [b"a.jpg", b"caf\xe9.jpg", b"100%.jpg", "日本.jpg".encode()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files of unusual names."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"content of " + name)
    return folder


def test_files_of_a_packed_archive_are_found_by_their_names(site: Site, folder: Path, tmp_path: Path) -> None:
    packed = pack([folder], tmp_path / "photos.tar", first=5)
    photos = site.client.datas3t(site.name)
    photos.upload_tar(packed.archive, names=packed.names)
    root = os.fsencode(folder)[1:]
    for name in NAMES:
        key = photos.find(root + b"/" + name)
        assert photos.get(key) == b"content of " + name
        assert photos.paths([key]) == [(root + b"/" + name).decode("utf-8", "surrogateescape")]
    rows = photos.table("files").read().to_pylist()
    assert [row["key"] for row in rows] == [5, 6, 7, 8]
    for row in rows:
        content = photos.get(row["key"])
        assert (row["size"], row["crc32c"], row["mtime"]) == (len(content), checksums.crc(content), None)


def test_an_upload_that_was_not_completed_is_completed_with_its_names(
    site: Site, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack([folder], tmp_path / "photos.tar")
    photos = site.client.datas3t(site.name)
    sent: list[tuple[int, ...]] = []

    def unavailable(opened: OpenUpload, _: object) -> None:
        sent.append(opened.table_file_ids)
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(OpenUpload, "complete", unavailable)
        patch.setattr("datas3t.client._transfers.task.retry_while_unavailable", lambda call, **_: call())
        with pytest.raises(Unavailable):
            photos.upload_tar(packed.archive, names=packed.names)
    assert len(sent[0]) == 1
    assert photos.tables() == []
    photos.upload_tar(packed.archive, names=packed.names)
    assert [(each.name, each.files) for each in photos.tables()] == [("files", 1)]
    assert photos.find(str(folder)[1:] + "/a.jpg")
    assert len(site.objects()) == 4  # with index, checksums and names


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"key": 1, "path": "a"}', "has no name for datapoint 2"),
        ('{"key": 1, "path": "a"}\n{"key": 1, "path": "b"}', "names datapoint 1 twice"),
        ('{"key": 9, "path": "a"}', "names datapoint 9, which is not in the archive"),
        ('{"key": 1}', "line 1 is no JSON object with the key and the path"),
        ('{"key": 1, "path": "a"}\n[]', "line 2 is no JSON object"),
        ('{"key": 1, "path": "/"}', "line 1 is no JSON object"),
        ('{"key": "1", "path": "a"}', "line 1 is no JSON object"),
        ("\0", "line 1 is no JSON object"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_before_anything_is_sent(
    site: Site, folder: Path, tmp_path: Path, lines: str, message: str
) -> None:
    packed = pack([folder], tmp_path / "photos.tar")
    (tmp_path / "list").write_text(lines)
    with pytest.raises(InvalidArgument, match=message):
        site.client.upload_tar(site.name, packed.archive, names=tmp_path / "list")
    assert site.objects() == []


def test_a_list_that_cannot_be_read_is_a_file_error(site: Site, folder: Path, tmp_path: Path) -> None:
    packed = pack([folder], tmp_path / "photos.tar")
    with pytest.raises(FileError, match="missing cannot be read: No such file"):
        site.client.upload_tar(site.name, packed.archive, names=tmp_path / "missing")
