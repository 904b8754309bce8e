"""The file system `datas3t://` of fsspec: paths, listings, contents, errors, processes."""

import errno
import json
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

from datas3t.client import InvalidArgument, ObjectChanged, Unavailable
from datas3t.fsspec import Datas3tFileSystem
from tests.client.archives import sample
from tests.client.pages import upload
from tests.client.sites import Site

NAME = "{:020d}.{}"


@pytest.fixture
def contents(site: Site, tmp_path: Path) -> dict[int, bytes]:
    """Upload keys 95 to 104 as `bin` and 1000 to 1003 as `json`."""
    first = sample(tmp_path / "a.tar", 95, *(number * 300 for number in range(10)))
    site.upload(first)
    more = [b'{"value": %d}' % number for number in range(4)]
    upload(site.client, site.name, tmp_path / "b.tar", "json", more, 1000)
    return first.contents | dict(enumerate(more, 1000))


@pytest.fixture
def fs(site: Site, contents: dict[int, bytes]) -> AbstractFileSystem:
    return fsspec.filesystem("datas3t", server_url=site.client.url, skip_instance_cache=True)


def path_of(site: Site, key: int) -> str:
    return f"{site.name}/{NAME.format(key, 'bin' if key < 1000 else 'json')}"


def test_fsspec_finds_it_by_its_protocol(fs: AbstractFileSystem, site: Site) -> None:
    assert type(fs) is Datas3tFileSystem
    assert fs._strip_protocol(f"datas3t://{site.name}/42/") == f"{site.name}/42"
    assert fs.unstrip_protocol(f"{site.name}/42") == f"datas3t://{site.name}/42"
    assert site.client.url in fs.fsid


def test_files_are_listed(fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]) -> None:
    paths = [path_of(site, key) for key in contents]
    assert {"name": site.name, "size": 0, "type": "directory"} in fs.ls("")
    assert site.name in fs.ls("datas3t://", detail=False)
    assert fs.ls(site.name, detail=False) == fs.find(site.name) == paths
    assert fs.glob(f"datas3t://{site.name}/*.json") == paths[10:]
    assert fs.du(site.name) == sum(map(len, contents.values()))
    assert next(fs.walk(site.name)) == (site.name, [], [path.partition("/")[2] for path in paths])
    for info, key in zip(fs.ls(site.name), contents, strict=True):
        assert (info["name"], info["key"], info["size"]) == (path_of(site, key), key, len(contents[key]))
        assert info["type"] == "file"
        assert fs.info(f"{site.name}/{key}") == fs.ls(f"{site.name}/{key}")[0] == info
    (first, second) = site.client.list_dataranges(site.name)
    assert fs.info(paths[0])["datarange_id"] == first.id
    assert fs.info(paths[-1])["datarange_id"] == second.id
    assert fs.modified(paths[0]) != fs.modified(paths[-1])
    assert fs.info(paths[0])["etag"] != fs.info(paths[-1])["etag"]


def test_a_partition_lists_folders_of_keys(site: Site, contents: dict[int, bytes]) -> None:
    fs = fsspec.filesystem("datas3t", server_url=site.client.url, partition=100)
    folders = [f"{site.name}/{first:020d}-{first + 99:020d}" for first in (0, 100, 1000)]
    assert fs.ls(site.name, detail=False) == folders
    assert fs.ls(folders[1], detail=False) == [f"{folders[1]}/{NAME.format(key, 'bin')}" for key in range(100, 105)]
    assert fs.info(folders[0]) == {"name": folders[0], "size": 0, "type": "directory"}
    files = fs.find(site.name)
    assert [fs.info(path)["key"] for path in files] == [*contents]
    assert fs.cat(files) == dict(zip(files, contents.values(), strict=True))
    assert fs.glob(f"{site.name}/*/*4.bin") == [path for path in files if path.endswith("4.bin")]
    # A folder of any keys is one, also without partitions.
    plain = fsspec.filesystem("datas3t", server_url=site.client.url)
    some = f"{site.name}/{97:020d}-{1000:020d}"
    assert plain.ls(some, detail=False)[0] == f"{some}/{NAME.format(97, 'bin')}"
    assert len(plain.ls(some)) == 9
    assert not plain.exists(f"{site.name}/{500:020d}-{600:020d}")
    with pytest.raises(InvalidArgument):
        fsspec.filesystem("datas3t", server_url=site.client.url, partition=0)


def test_contents_are_read(fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]) -> None:
    paths = [path_of(site, key) for key in contents]
    assert fs.cat(site.name, recursive=True) == fs.cat(paths) == dict(zip(paths, contents.values(), strict=True))
    assert fs.cat(f"{site.name}/*.json") == dict(zip(paths[10:], [*contents.values()][10:], strict=True))
    for key, content in contents.items():
        for name in (f"{key}", f"0{key}", NAME.format(key, "bin" if key < 1000 else "json")):
            assert fs.cat(f"datas3t://{site.name}/{name}") == fs.cat_file(f"{site.name}/{name}") == content
        with fs.open(path_of(site, key), block_size=500) as file:
            assert file.read(7) == content[:7]
            assert file.seek(-5, os.SEEK_END) == len(content) - 5 if len(content) > 5 else True
            assert file.size == len(content)
    with fs.open(f"{site.name}/1001", "rt") as text:
        assert json.load(text) == {"value": 1}
    assert fs.cat_file(f"{site.name}/99", -10, -3) == contents[99][-10:-3]
    assert fs.head(f"{site.name}/99", 9) == contents[99][:9]
    assert fs.tail(f"{site.name}/99", 9) == contents[99][-9:]


def test_parts_are_slices(fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]) -> None:
    keys = [99, 1001, 99, 104, 95, 99]
    starts, ends = [0, -4, 100, None, 5, 7], [10, None, -100, 50, 90, 3]
    paths = [path_of(site, key) for key in keys]
    expected = [contents[key][start:end] for key, start, end in zip(keys, starts, ends, strict=True)]
    assert fs.cat_ranges(paths, starts, ends) == expected
    assert fs.cat_ranges(paths, 2, 9, max_gap=100) == [contents[key][2:9] for key in keys]
    missing = [path_of(site, 99), f"{site.name}/7", f"{site.name}/99.jpg", "nowhere/1", site.name]
    found = fs.cat_ranges(missing, 0, 5)
    assert [type(each) for each in found] == [bytes, *[FileNotFoundError] * 3, IsADirectoryError]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(missing, 0, 5, on_error="raise")
    with pytest.raises(ValueError, match="same length"):
        fs.cat_ranges(paths, [1], [2])
    with pytest.raises(TypeError):
        fs.cat_ranges(paths[0], 1, 2)


def test_what_does_not_exist_is_not_found(fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]) -> None:
    name = site.name
    for path in (f"{name}/7", f"{name}/99.jpg", f"{name}/99.", f"{name}/cats", f"{name}/99/1", f"{name}/{2**63}",
                 f"{name}/{1:020d}-{50:020d}/99", f"{name}/{7:020d}-{5:020d}", "nowhere", "nowhere/1"):  # fmt: skip
        assert not fs.exists(path)
        assert not fs.isfile(path)
        assert not fs.isdir(path)
        for read in (fs.info, fs.ls, fs.cat_file, fs.open):
            with pytest.raises(FileNotFoundError):
                read(path)
    assert fs.isdir(name)
    assert fs.isdir("")
    assert fs.isfile(f"{name}/99")
    with pytest.raises(IsADirectoryError):
        fs.open(name)
    both = [f"{name}/7", f"{name}/99", f"{name}/1000.bin"]
    with pytest.raises(FileNotFoundError):
        fs.cat(both)
    assert fs.cat(both, on_error="omit") == {both[1]: contents[99]}
    returned = fs.cat(both, on_error="return")
    assert returned[both[1]] == contents[99]
    assert isinstance(returned[both[0]], FileNotFoundError)
    assert isinstance(returned[both[2]], FileNotFoundError)


def test_an_error_that_is_no_missing_file_is_raised(fs: AbstractFileSystem, site: Site) -> None:
    away = fsspec.filesystem("datas3t", server_url="http://127.0.0.1:9")
    for read in (away.exists, away.isfile, away.isdir, away.ls, away.cat):
        with pytest.raises(Unavailable):
            read("photos/1")
    fs.info(f"{site.name}/99")
    for key in site.objects():
        site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(ObjectChanged):
        fs.cat(f"{site.name}/99")
    (error,) = fs.cat([f"{site.name}/99"], on_error="return").values()
    assert isinstance(error, ObjectChanged)


def test_nothing_is_written(fs: AbstractFileSystem, site: Site, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    path = f"{site.name}/5000.bin"
    calls: list[Callable[[], object]] = [
        lambda: fs.open(path, "wb"), lambda: fs.open(path, "ab"), lambda: fs.open(path, "xb"),
        lambda: fs.open(path, "r+b"), lambda: fs.open(path, "w"), lambda: fs.pipe(path, b"new"),
        lambda: fs.pipe_file(path, b"new"), lambda: fs.put(str(tmp_path / "new"), path), lambda: fs.touch(path),
        lambda: fs.put_file(str(tmp_path / "new"), path), lambda: fs.rm(f"{site.name}/99"),
        lambda: fs.rm_file(f"{site.name}/99"), lambda: fs.rm(site.name, recursive=True), lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new/folder", exist_ok=True), lambda: fs.rmdir(site.name), lambda: fs.mv("a", "b"),
        lambda: fs.cp(f"{site.name}/99", path), lambda: fs.write_text(path, "new"), lambda: fs.delete(path),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(OSError, match="datas3t push") as caught:
            call()
        assert caught.value.errno == errno.EROFS
    with pytest.raises(NotImplementedError, match="other files"):
        fs.sign(f"{site.name}/99")


def test_files_are_copied_to_this_machine(
    fs: AbstractFileSystem, site: Site, contents: dict[int, bytes], tmp_path: Path
) -> None:
    fs.get(f"{site.name}/99", str(tmp_path / "one"))
    assert (tmp_path / "one").read_bytes() == contents[99]
    fs.get(site.name, str(tmp_path / "all"), recursive=True)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "all").rglob("*") if path.is_file()}
    assert copied == {path_of(site, key).partition("/")[2]: content for key, content in contents.items()}
    (tmp_path / "some").mkdir()
    fs.get(f"{site.name}/*.json", str(tmp_path / "some"))
    assert len([*(tmp_path / "some").iterdir()]) == 4
    fs.get([path_of(site, 99), path_of(site, 96)], [str(tmp_path / "x"), str(tmp_path / "y")])
    assert (tmp_path / "x").read_bytes() == contents[99]
    assert (tmp_path / "y").read_bytes() == contents[96]


def test_a_listing_stays_until_the_cache_is_invalidated(fs: AbstractFileSystem, site: Site, tmp_path: Path) -> None:
    assert len(fs.ls(site.name)) == 14
    upload(site.client, site.name, tmp_path / "c.tar", "json", [b"5", b"6"], 2000)
    assert len(fs.ls(site.name)) == 14
    assert not fs.exists(f"{site.name}/2000")
    fs.invalidate_cache(f"{site.name}/1")
    assert len(fs.ls(site.name)) == 16
    upload(site.client, site.name, tmp_path / "d.tar", "json", [b"7"], 3000)
    assert len(fs.ls(site.name, refresh=True)) == 17
    fs.invalidate_cache()
    assert fs.cat(f"{site.name}/3000.json") == b"7"


def test_options_have_no_secrets_and_say_what_to_open(
    fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]
) -> None:
    text = fs.to_json(include_password=False)
    assert json.loads(text).keys() == {"cls", "protocol", "args", "server_url"}
    for other in (AbstractFileSystem.from_json(text), AbstractFileSystem.from_dict(fs.to_dict())):
        assert other.cat(f"{site.name}/99") == contents[99]
    copy = pickle.loads(pickle.dumps(fs))
    assert copy.cat(f"{site.name}/99") == contents[99]
    assert len(pickle.dumps(fs)) < 500


def test_the_address_is_that_of_the_environment(
    site: Site, contents: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAS3T_SERVER_URL", site.client.url)
    with fsspec.open(f"datas3t://{site.name}/99", skip_instance_cache=True) as file:
        assert file.read() == contents[99]


def read_one(fs: AbstractFileSystem, path: str) -> bytes:
    return bytes(fs.cat(path))


def test_other_processes_and_threads_read(fs: AbstractFileSystem, site: Site, contents: dict[int, bytes]) -> None:
    paths = [path_of(site, key) for key in contents]
    assert fs.cat(paths[0]) == contents[95]
    for method in ("spawn", "fork"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as processes:
            assert list(processes.map(read_one, [fs] * 14, paths)) == [*contents.values()]
    found: dict[str, bytes] = {}

    def read(path: str) -> None:
        found[path] = fsspec.filesystem("datas3t", server_url=site.client.url).cat(path)

    threads = [threading.Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict(zip(paths, contents.values(), strict=True))
