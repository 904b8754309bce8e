"""Import of WebDataset's shards: every kind that webdataset and img2dataset write, damaged ones, and repetition."""

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from datas3t.client import Client, FilesFailed, ImportedShards, InvalidArgument, KeySet, NotFound
from tests.client.files.shards import imported, members, samples, written

_TXT = {"jpg", "seg.png", "txt"}


def _import(client: Client, name: str, shards: object, **options: object) -> ImportedShards:
    return client.import_webdataset(name, shards, **options)  # type: ignore[arg-type]


def test_each_field_is_a_datas3t_and_a_sample_has_one_key_in_all(client: Client, datas3t: str, tmp_path: Path) -> None:
    shards = [samples(20), samples(5, 20), samples(30, 25)]
    files = [written(tmp_path / f"{number}.tar", members(shard)) for number, shard in enumerate(shards)]
    done = _import(client, datas3t, files, archive_size=4_000)
    assert done.datas3ts == {field: f"{datas3t}--{field.replace('.', '_')}" for field in _TXT}
    assert (done.shards, done.samples, done.left_out) == (3, 55, 0)
    assert done.size == sum(len(content) for shard in shards for _, fields in shard for content in fields.values())
    assert imported(client, done.datas3ts, range(1, 56)) == [*shards[0], *shards[1], *shards[2]]
    for field in ("jpg", "seg.png"):
        assert client.datas3t(done.datas3ts[field]).keyset == KeySet.of([(1, 55)])
    assert client.datas3t(f"{datas3t}--txt").datapoints([1, 2])[0].extension == "missing"
    assert client.datas3t(f"{datas3t}--seg_png").find("folder/000007.seg.png") == 8
    assert client.datas3t(f"{datas3t}--jpg").list_dataranges()[1].first < 20  # archives end at the size


def test_what_was_imported_is_not_imported_again_and_new_shards_follow(
    client: Client, datas3t: str, tmp_path: Path
) -> None:
    first = written(tmp_path / "0.tar", members(samples(3)))
    _import(client, datas3t, first)
    second = written(tmp_path / "1.tar", [("b/x.cls", b"7"), ("b/x.jpg", b"new")])
    done = _import(client, datas3t, [first, second])
    assert (done.shards, done.samples, done.unchanged) == (1, 1, 1)
    assert imported(client, done.datas3ts, range(1, 5)) == [*samples(3), ("b/x", {"cls": b"7", "jpg": b"new"})]
    assert client.datas3t(f"{datas3t}--cls").keyset == KeySet.of([(4, 4)])  # which fell behind
    assert client.datas3t(f"{datas3t}--txt").keyset == KeySet.of([(1, 3)])
    with pytest.raises(FilesFailed, match="it was changed since it was imported"):
        _import(client, datas3t, written(first, members(samples(4))))
    for name in done.datas3ts.values():
        client.datas3t(name).clear()
    repeated = _import(client, datas3t, [first, second])
    assert repeated.samples == 5
    assert imported(client, done.datas3ts, range(5, 10))[:4] == samples(4)


def test_fields_are_chosen_and_keep_the_numbers_of_samples(client: Client, datas3t: str, tmp_path: Path) -> None:
    shard = written(tmp_path / "0.tar", members(samples(7)))
    done = _import(client, datas3t, shard, fields=["txt"])
    assert done.datas3ts == {"txt": f"{datas3t}--txt"}
    later = _import(client, datas3t, shard, fields=["JPG", ".seg.png"])
    assert imported(client, {**done.datas3ts, **later.datas3ts}, range(1, 8)) == samples(7)


def test_nested_samples_are_archives_of_their_files(client: Client, datas3t: str, tmp_path: Path) -> None:
    names: list[tuple[str | bytes, bytes]] = [
        ("a/1.jpg", b"x" * 700),
        ("a/1.json", b"{}"),
        ("a/2.jpg", b""),
        (b"a/caf\xe9.txt", b"latin"),
    ]
    done = _import(client, datas3t, written(tmp_path / "0.tar", names), nest=True)
    assert (done.datas3ts, done.samples) == ({"": datas3t}, 3)
    handle = client.datas3t(datas3t)
    found = []
    for datapoint in handle.scan():
        assert datapoint.extension == "tar"
        with tarfile.open(fileobj=io.BytesIO(datapoint.content)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                found.append((member.name, content.read()))
    assert found == [(os.fsdecode(name), content) for name, content in names]
    assert handle.find("a/2.tar") == 2
    assert handle.find(b"a/caf\xe9.tar".decode(errors="surrogateescape")) == 3


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_dialects_compression_and_unusual_names(
    client: Client, datas3t: str, tmp_path: Path, compression: str, tar_format: int
) -> None:
    long = "folder/" * 30 + "x" * 120
    files: list[tuple[str | bytes, bytes]] = [
        (b"caf\xe9/1.jpg", b"one"),
        ("./dots/2.JPG", b"two"),
        (f"{long}.jpg", b"three"),
        ("ünï/4.jpg", b"four"),
        ("100%/5.jpg", b"five"),
    ]
    mode = f"w:{compression}" if compression in ("gz", "bz2", "xz") else "w"
    shard = written(tmp_path / "shard", files, mode, tar_format)
    if compression == "zst":
        zstandard = pytest.importorskip("zstandard")
        shard.write_bytes(zstandard.ZstdCompressor().compress(shard.read_bytes()))
    done = _import(client, datas3t, shard)
    handle = client.datas3t(done.datas3ts["jpg"])
    assert handle.get_many(range(1, 6)) == [content for _, content in files]
    names: list[str | bytes] = [b"caf\xe9/1.jpg", b"dots/2.JPG", f"{long}.jpg", "ünï/4.jpg", "100%/5.jpg"]
    assert [handle.find(os.fsdecode(name)) for name in names] == [1, 2, 3, 4, 5]


def test_what_is_no_file_of_a_sample_is_left_out_and_named(client: Client, datas3t: str, tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE)):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "a.jpg"
            tar.addfile(about)
        for name in ("__index__", "__meta__/a.jpg", "README", ".hidden", "end.", "a.jpg"):
            about = tarfile.TarInfo(name)
            about.size = 1
            tar.addfile(about, io.BytesIO(b"x"))
    done = _import(client, datas3t, shard)
    assert (done.samples, done.left_out, done.datas3ts) == (1, 8, {"jpg": f"{datas3t}--jpg"})
    assert any("'d/' is a directory" in note for note in done.notes)
    assert any("'README' has no extension" in note for note in done.notes)


def test_a_key_that_comes_again_begins_a_new_sample(client: Client, datas3t: str, tmp_path: Path) -> None:
    files = [("a.jpg", b"1"), ("a.txt", b"2"), ("a.jpg", b"3"), ("b.jpg", b"4"), ("a.txt", b"5")]
    done = _import(client, datas3t, written(tmp_path / "0.tar", files))
    found = imported(client, done.datas3ts, range(1, 5))
    assert found == [
        ("a", {"jpg": b"1", "txt": b"2"}),
        ("a", {"jpg": b"3"}),
        ("b", {"jpg": b"4"}),
        ("a", {"txt": b"5"}),
    ]
    assert "'a.jpg' is there twice in a row" in done.notes[0]


def test_damaged_shards_are_named_and_the_others_are_imported(client: Client, datas3t: str, tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.tar", members(samples(40))).read_bytes()
    packed = written(tmp_path / "gz.tar", members(samples(40)), "w:gz").read_bytes()
    wrong = bytearray(whole)
    wrong[148:154] = b"777777"  # the checksum of the first header
    damaged = {
        "cut": whole[:9_000],
        "unmarked": whole[:1024],
        "torn.gz": packed[:-20],
        "empty": b"",
        "text": b"no archive" * 100,
        "joined": whole + whole,
        "wrong": bytes(wrong),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in [*damaged, "missing", "whole.tar", "."]]
    with pytest.raises(FilesFailed, match="9 shards were not imported to the end") as failed:
        _import(client, datas3t, paths)
    done = failed.value.result
    assert (done.shards, done.samples, done.failed) == (1, 40, 9)
    assert imported(client, done.datas3ts, range(1, 41)) == samples(40)
    assert [text.split(": ")[0] for text in done.failures] == [
        os.path.abspath(tmp_path / name) for name in [*damaged, "missing", "."]
    ]


def test_a_shard_that_was_cut_goes_on_when_it_is_whole(client: Client, datas3t: str, tmp_path: Path) -> None:
    shard = written(tmp_path / "0.tar", members(samples(60)))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FilesFailed) as failed:
        _import(client, datas3t, shard, archive_size=5_000)
    assert 0 < failed.value.result.samples < 60
    shard.write_bytes(whole)
    done = _import(client, datas3t, shard, archive_size=5_000)
    assert done.samples == 60 - failed.value.result.samples
    assert imported(client, done.datas3ts, range(1, 61)) == samples(60)


def test_options_that_make_no_sense_are_refused(client: Client, datas3t: str, tmp_path: Path) -> None:
    shard = written(tmp_path / "0.tar", [("a.seg.png", b""), ("a.seg_png", b""), ("b.missing", b"")])
    with pytest.raises(InvalidArgument, match="would both be in the datas3t"):
        _import(client, datas3t, shard)
    with pytest.raises(InvalidArgument, match="marks what samples lack"):
        _import(client, datas3t, shard, fields=["missing"])
    many = written(tmp_path / "1.tar", [(f"name.{number}.jpg", b"") for number in range(70)])
    with pytest.raises(InvalidArgument, match="more than 64 fields"):
        _import(client, datas3t, many)
    for wrong in ([], ["s3://bucket/key"], ["http://"]):
        with pytest.raises(InvalidArgument):
            _import(client, datas3t, wrong)
    plain = written(tmp_path / "2.tar", [("a.jpg", b"")])
    with pytest.raises(NotFound):
        _import(client, f"other-{datas3t}", plain, bucket="none")


_KILLED = """
import os, random, signal, sys
from datas3t.client import Client
from datas3t.client._files._shards import importing, journal

left = int(sys.argv[3])

def event():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(function):
    def call(*arguments):
        event()
        result = function(*arguments)
        event()
        return result
    return call

journal.Journal._write = watched(journal.Journal._write)
importing.upload = watched(importing.upload)
importing.Destinations.reserve = watched(importing.Destinations.reserve)
with Client(sys.argv[1]) as client:
    client.import_webdataset(sys.argv[2], sys.argv[4:], archive_size=10_000)
"""


def test_after_kill_9_at_any_step_nothing_is_lost_or_doubled(client: Client, datas3t: str, tmp_path: Path) -> None:
    shards = [samples(20), samples(6, 20)]
    files = [written(tmp_path / f"{number}.tar", members(shard)) for number, shard in enumerate(shards)]
    chance = random.Random(os.urandom(8))
    events = [chance.randrange(2, 20) for _ in range(3)]
    for left in [*events, 10_000]:
        command = [sys.executable, "-c", _KILLED, client.url, datas3t, str(left), *map(str, files)]
        done = subprocess.run(command, check=False, timeout=100)
        assert done.returncode == (-signal.SIGKILL if left < 10_000 else 0), events
    names = {field: f"{datas3t}--{field.replace('.', '_')}" for field in _TXT}
    for field in ("jpg", "seg.png"):
        assert client.datas3t(names[field]).keyset == KeySet.of([(1, 26)]), events
    assert imported(client, names, range(1, 27)) == [*shards[0], *shards[1]], events
