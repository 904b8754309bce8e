"""Datapoints written as files."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

from datas3t.archive.checksums import crc
from datas3t.client import FilesFailed, InvalidArgument, NotFound, Pulled
from datas3t.client._calls import tables
from datas3t.client._tables.files_rows import send_rows
from tests.client.archives import sample
from tests.client.files.folders import described, filled
from tests.client.sites import Site
from tests.support.faults import Fault
from tests.support.memory import memory_growth


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_is_pushed_and_pulled_is_the_same(site: Site, tmp_path: Path) -> None:
    seeded = random.Random(1)
    source = tmp_path / "in"
    contents = {f"{n % 7}/{n}.jpg": seeded.randbytes(seeded.randrange(3_000)) for n in range(100)}
    filled(source, contents | {"large.bin": seeded.randbytes(9 << 20), "empty": b"", ".hidden/x": b"x"})
    for name in (b"caf\xe9", b"100%", b"two\nlines", "日本".encode()):
        (source / os.fsdecode(name)).write_bytes(name)
    for number, path in enumerate(path for path in source.rglob("*") if path.is_file()):
        os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number))
    images = site.client.datas3t(site.name)
    images.push(source, archive_size=100_000)
    steps: list[tuple[str, int, int]] = []
    pulled = images.pull(tmp_path / "out", progress=lambda *step: steps.append(step))
    assert described(tmp_path / "out") == described(source)
    assert (pulled.files, pulled.unchanged, pulled.failed) == (107, 0, 0)
    assert ("files", 107, 107) in steps
    again = images.pull(tmp_path / "out")
    assert again == Pulled(files=0, size=0, unchanged=107, failed=0)


def test_the_newest_of_a_path_is_written_and_only_keys_and_paths_that_are_asked_for(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a.txt": b"old", "b.txt": b"2", "c.jpg": b"3"})
    images = site.client.datas3t(site.name)
    images.push(source)
    filled(source, {"a.txt": b"newer"})
    images.push(source)
    images.pull(tmp_path / "all")
    assert (tmp_path / "all" / "a.txt").read_bytes() == b"newer"
    images.pull(tmp_path / "txt", match="*.txt")
    assert names(tmp_path / "txt") == ["a.txt", "b.txt"]
    images.pull(tmp_path / "some", first=1, last=2)
    assert (tmp_path / "some" / "a.txt").read_bytes() == b"old"
    assert names(tmp_path / "some") == ["a.txt", "b.txt"]


def test_what_differs_is_replaced_only_if_asked_for(site: Site, tmp_path: Path) -> None:
    images = site.client.datas3t(site.name)
    images.push(filled(tmp_path / "in", {"a": b"1", "b": b"2"}))
    out = filled(tmp_path / "out", {"a": b"mine"})
    with pytest.raises(FilesFailed, match="1 file was not pulled: a: something else is there") as failed:
        images.pull(out)
    assert failed.value.result.files == 1
    assert (out / "a").read_bytes() == b"mine"
    assert images.pull(out, overwrite=True).files == 1
    assert (out / "a").read_bytes() == b"1"


def test_datapoints_without_a_path_get_the_name_of_their_entry(site: Site, tmp_path: Path) -> None:
    archive = sample(tmp_path / "1.tar", 5, 10, 20, 30)
    site.client.upload_tar(site.name, archive.path)
    images = site.client.datas3t(site.name)
    images.push(filled(tmp_path / "in", {"a": b"1"}))
    images.pull(tmp_path / "out")
    expected = [each.name for each in images.scan(5, 7)]
    assert names(tmp_path / "out") == [*expected, "a"]
    assert [(tmp_path / "out" / each.name).read_bytes() for each in images.scan(5, 7)] == images.get_many([5, 6, 7])
    assert images.pull(tmp_path / "out").unchanged == 4
    assert images.pull(tmp_path / "some", match="*[6]*").files == 1


CRAFTED = [
    "../outside",
    "/tmp/datas3t-outside",
    "a/../../outside",
    "nul\0",
    "link/outside",
    "file/x",
    "%",
    ".",
    "%2e%2e/x",
]


def test_paths_that_lead_out_of_the_output_are_refused_and_the_others_written(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {f"{number:02d}": b"content" for number in range(len(CRAFTED) + 2)})
    images = site.client.datas3t(site.name)
    images.push(source)
    rows = [
        {"key": key, "path": path, "size": 7, "mtime": None, "crc32c": crc(b"content")}
        for key, path in enumerate(["first", *CRAFTED, "good/file"], 1)
    ]
    images.table("files").append(rows)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    filled(tmp_path / "out", {"file": b"mine"})
    (tmp_path / "out" / "link").symlink_to(outside)
    with pytest.raises(FilesFailed, match="9 files were not pulled") as failed:
        images.pull(tmp_path / "out")
    assert names(tmp_path / "out") == ["file", "first", "good/file"]
    assert not list(outside.iterdir())
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/datas3t-outside").exists()
    assert len(failed.value.result.failures) == 9


def test_a_row_that_does_not_fit_its_datapoint_is_told(site: Site, tmp_path: Path) -> None:
    images = site.client.datas3t(site.name)
    images.push(filled(tmp_path / "in", {"a": b"1", "b": b"2", "c": os.urandom(9 << 20)}))
    rows = images.table("files").read().to_pylist()
    for row in rows:
        row["crc32c"] ^= row["key"] != 2
    images.table("files").append(rows)
    with pytest.raises(FilesFailed, match="2 files were not pulled"):
        images.pull(tmp_path / "out")
    assert names(tmp_path / "out") == ["b"]


@pytest.mark.parametrize("column", ["path", "size", "crc32c"])
def test_rows_of_another_writer_that_lack_a_value_name_nothing(site: Site, tmp_path: Path, column: str) -> None:
    images = site.client.datas3t(site.name)
    source = filled(tmp_path / "in", {"a": b"1", "b": b"2"})
    images.push(source)
    rows = images.table("files").read(last=1)
    lacking = rows.set_column(rows.column_names.index(column), column, pa.nulls(1, rows.schema.field(column).type))
    with pytest.raises(InvalidArgument, match=f"has no {column}"):
        images.table("files").append(lacking)
    table_file = send_rows(site.client._session, site.name, "files", lacking)
    tables.complete(site.client.connection, table_file)
    images.refresh()
    images.pull(tmp_path / "out")
    assert names(tmp_path / "out") == [images.datapoints([1])[0].name, "b"]
    assert images.push(source).files == (column != "crc32c")  # a push looks at path, size and time


def test_what_is_damaged_in_the_bucket_is_named_and_the_rest_written(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a": b"1", "b": b"2", "c": b"3", "d": os.urandom(9 << 20)})
    images = site.client.datas3t(site.name)
    images.push(source, archive_size=4_000)
    for datarange in site.client.list_dataranges(site.name)[1:]:
        content = bytearray(site.object(datarange.object_key))
        content[512] ^= 1
        site.s3.put_object(Bucket=site.bucket, Key=datarange.object_key, Body=bytes(content))
    with pytest.raises(FilesFailed, match="2 files were not pulled") as failed:
        images.pull(tmp_path / "out")
    assert names(tmp_path / "out") == ["a", "b"]
    assert sorted(text[0] for text in failed.value.result.failures) == ["c", "d"]


def test_a_damaged_datapoint_without_a_path_is_told_and_the_others_written(site: Site, tmp_path: Path) -> None:
    site.client.upload_tar(site.name, sample(tmp_path / "1.tar", 5, 10, 20, 30).path)
    site.client.upload_tar(site.name, sample(tmp_path / "2.tar", 8, 40, 9 << 20, 60).path)
    site.client.upload_tar(site.name, sample(tmp_path / "3.tar", 11, 40, 9 << 20, 60).path)
    images = site.client.datas3t(site.name)
    for datarange in site.client.list_dataranges(site.name)[::2]:
        site.s3.put_object(Bucket=site.bucket, Key=datarange.object_key, Body=b"something else")
    with pytest.raises(FilesFailed, match="6 files were not pulled") as failed:
        images.pull(tmp_path / "out")
    told = sorted(int(text.split(":")[0].removeprefix("datapoint ")) for text in failed.value.result.failures)
    assert told == [5, 6, 7, 11, 12, 13]
    assert names(tmp_path / "out") == [f"{key:020d}.bin" for key in (8, 9, 10)]


@pytest.mark.parametrize("named", [True, False])
def test_a_bit_of_a_large_file_that_flips_on_the_way_is_fetched_again(
    relayed: Site, tmp_path: Path, named: bool
) -> None:
    images = relayed.client.datas3t(relayed.name)
    if named:
        images.push(filled(tmp_path / "in", {"a": os.urandom(9 << 20)}))
    else:
        relayed.client.upload_tar(relayed.name, sample(tmp_path / "1.tar", 1, 9 << 20).path)
    assert relayed.relay
    seen = 0

    def flip(line: bytes) -> Fault:
        nonlocal seen
        seen += line.startswith(b"GET ") and b".tar?" in line
        return Fault(flip=1_000_001) if seen == 2 else Fault()  # the first one fetches the header

    relayed.relay.rule = flip
    assert images.pull(tmp_path / "out").files == 1
    assert seen > 3  # it was fetched again
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_bytes() == images.get(1)


@pytest.mark.parametrize("verify", [True, False])
def test_a_large_datapoint_without_a_path_is_not_held_in_memory(site: Site, tmp_path: Path, verify: bool) -> None:
    size = 40 << 20
    content = sample(tmp_path / "1.tar", 1, 10, size, 10)
    site.client.upload_tar(site.name, content.path)
    arguments = [site.client.url, site.name, str(tmp_path / "out"), verify]
    grown = memory_growth(
        "from datas3t.client import Client\n"
        "url, name, out, verify = arguments\n"
        "images = Client(url, verify=verify).datas3t(name)\n"
        "images.pull(out, first=1, last=1)",
        "pulled = images.pull(out)\n"
        "assert (pulled.files, pulled.unchanged, pulled.failed) == (2, 1, 0), pulled\n"
        "pulled = images.pull(out)\n"
        "assert (pulled.files, pulled.unchanged) == (0, 3), pulled",
        arguments,
    )
    assert grown < 30
    assert (tmp_path / "out" / f"{2:020d}.bin").read_bytes() == content.contents[2]


def test_a_flipped_bit_on_the_way_is_noticed(relayed: Site, tmp_path: Path) -> None:
    assert relayed.relay
    images = relayed.client.datas3t(relayed.name)
    images.push(filled(tmp_path / "in", {"a": b"content"}))
    forged = 0

    def flip(line: bytes) -> Fault:
        nonlocal forged
        is_content = line.startswith(b"GET ") and b".tar" in line
        forged += is_content
        return Fault(other_object=is_content)

    relayed.relay.rule = flip
    with pytest.raises(FilesFailed, match="1 file was not pulled: a: "):
        images.pull(tmp_path / "out")
    assert forged
    assert not names(tmp_path / "out")


def test_wrong_arguments_are_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        site.client.datas3t("missing").pull(tmp_path / "out")
    images = site.client.datas3t(site.name)
    with pytest.raises(InvalidArgument):
        images.pull(tmp_path / "out", first=2, last=1)
    with pytest.raises(InvalidArgument, match="pattern"):
        images.pull(tmp_path / "out", match="")
    with pytest.raises(InvalidArgument, match="empty"):
        images.pull("")
    assert images.pull(tmp_path / "out").files == 0
