"""Indices of a reader: fetched once by all handles and processes, kept on disk, never believed where they are wrong."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from datas3t.archive import index
from datas3t.client import ArchiveError, ObjectChanged
from datas3t.client._reading import index_files, indices
from datas3t.client._reading.costs import Costs
from datas3t.client.handle import Datas3t
from tests.client.archives import Sample, sample, tar
from tests.client.reading.served import Shelf, shelf
from tests.client.sites import Site

if TYPE_CHECKING:
    from datas3t.server.app import Server

KEYS = range(100, 110)
CONTENTS = {key: b"%03d" % key * (key - 90) for key in KEYS}
READS: dict[str, Callable[[Datas3t], list[bytes]]] = {
    "get": lambda handle: [handle.get(key) for key in KEYS],
    "get_many": lambda handle: handle.get_many(KEYS),
    "scan": lambda handle: [datapoint.content for datapoint in handle.scan()],
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path / "cache") as made:
        yield made


def index_gets(site: Site) -> int:
    assert site.relay
    return sum(line.startswith(b"GET ") and b".index?" in line for line in site.relay.requests)


def kept(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if len(file.name) == 64)


def filled(site: Site, folder: Path) -> dict[int, bytes]:
    """Uploads three archives."""
    samples = [sample(folder / f"{first}.tar", first, *[700] * 50) for first in (0, 50, 200)]
    for each in samples:
        site.upload(each)
    return samples[0].contents | samples[1].contents | samples[2].contents


def test_two_handles_fetch_an_index_once(relayed: Site, tmp_path: Path) -> None:
    contents = filled(relayed, tmp_path)
    before = index_gets(relayed)
    for _ in range(2):
        handle = relayed.client.datas3t(relayed.name)
        assert handle.get(7) == contents[7]
        assert handle.get_many(contents) == list(contents.values())
        assert len(list(handle.scan())) == len(contents)
    assert index_gets(relayed) - before == 3


_READER = """
import sys
from datas3t.client import Client
url, name, *keys = sys.argv[1:]
with Client(url) as client:
    handle = client.datas3t(name)
    assert len(handle) == 150
    print("ready", flush=True)
    sys.stdin.readline()
    for key in map(int, keys):
        assert len(handle.get(key)) == 700
    assert sum(map(len, handle.get_many(handle.keys))) == 150 * 700
"""


@pytest.mark.parametrize("keys", [[], [0, 50, 200]], ids=["many at once", "one by one"])
def test_processes_that_begin_at_once_fetch_an_index_once(relayed: Site, tmp_path: Path, keys: list[int]) -> None:
    filled(relayed, tmp_path)
    before = index_gets(relayed)
    command = [sys.executable, "-c", _READER, relayed.client.url, relayed.name, *map(str, keys)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for reader in readers:
        assert reader.stdout
        assert reader.stdout.readline() == b"ready\n"
    for reader in readers:
        assert reader.stdin
        reader.stdin.write(b"go\n")
        reader.stdin.flush()
    for reader in readers:
        reader.communicate(timeout=60)
    assert [reader.returncode for reader in readers] == [0] * 4
    assert index_gets(relayed) - before == 3


@every_read
def test_a_cache_folder_that_cannot_be_used_costs_nothing_but_speed(
    own: Shelf, read: Callable[[Datas3t], list[bytes]]
) -> None:
    own.client.cache_dir.parent.mkdir(parents=True)
    own.client.cache_dir.write_text("a file of somebody's")
    handle = own.handle(tar(CONTENTS))
    for _ in range(2):
        assert read(handle) == list(CONTENTS.values())
    assert own.index_gets == 1, "it is in memory"
    assert read(own.again(handle)) == list(CONTENTS.values())
    assert own.client.cache_dir.read_text() == "a file of somebody's"


_ON_A_FULL_DISK = """
import resource, sys
from datas3t.client import Client
url, name = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
with Client(url) as client:
    for _ in range(2):
        handle = client.datas3t(name)
        assert len(handle.get(0)) == 700
        assert sum(map(len, handle.get_many(handle.keys))) == 150 * 700
        assert sum(len(datapoint.content) for datapoint in handle.scan()) == 150 * 700
"""


@pytest.mark.parametrize("small", [0, 256 << 10], ids=["large indices", "small indices"])
def test_a_full_disk_costs_nothing_but_speed(site: Site, tmp_path: Path, small: int) -> None:
    filled(site, tmp_path)
    set_small = f"from datas3t.client._reading import index_files\nindex_files._SMALL = {small}\n"
    command = [sys.executable, "-c", set_small + _ON_A_FULL_DISK, site.client.url, site.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert kept(site.client.cache_dir) == []


@every_read
@pytest.mark.parametrize(
    "spoil", [lambda _: b"", lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: bytes(len(raw))]
)
def test_a_torn_or_zeroed_file_is_fetched_anew(
    own: Shelf, read: Callable[[Datas3t], list[bytes]], spoil: Callable[[bytes], bytes]
) -> None:
    handle = own.handle(tar(CONTENTS))
    handle.get(KEYS[0])
    (file,) = kept(own.client.cache_dir)
    right = file.read_bytes()
    file.write_bytes(spoil(right))
    assert read(own.again(handle)) == list(CONTENTS.values())
    assert own.index_gets == 2
    assert file.read_bytes() == right


def shuffled(raw: bytes) -> bytes:
    """An index of the same size that fits the archive's size, but has two entries in each other's place."""
    entries = index.decode(raw)
    entries[4], entries[5] = entries[5], entries[4]
    position, tiled = 0, []
    for each in entries:
        tiled.append(each._replace(position=position))
        position = tiled[-1].stop
    return index.encode(tiled)


def beyond(raw: bytes) -> bytes:
    """One entry would be behind the archive's end."""
    entries = index.decode(raw)
    entries[4] = entries[4]._replace(position=1 << 40)
    return index.encode(entries)


@every_read
@pytest.mark.parametrize("spoil", [shuffled, beyond])
def test_a_file_with_wrong_records_is_noticed_and_fetched_anew(
    own: Shelf, read: Callable[[Datas3t], list[bytes]], spoil: Callable[[bytes], bytes]
) -> None:
    handle = own.handle(tar(CONTENTS))
    handle.get(KEYS[0])
    (file,) = kept(own.client.cache_dir)
    right = file.read_bytes()
    assert spoil(right) != right
    file.write_bytes(spoil(right))
    assert read(own.again(handle)) == list(CONTENTS.values())
    assert own.index_gets == 2
    assert file.read_bytes() == right


@every_read
def test_an_index_that_somebody_replaced_in_s3_is_an_error(
    site: Site, tmp_path: Path, read: Callable[[Datas3t], list[bytes]]
) -> None:
    upload(site, tmp_path)
    put_index(site, shuffled)
    with pytest.raises(ObjectChanged):
        read(site.client.datas3t(site.name))


@every_read
@pytest.mark.parametrize("spoil", [shuffled, beyond, lambda raw: raw[:-16] + bytes(16)])
def test_an_index_that_is_wrong_in_s3_itself_names_the_datarange(
    site: Site,
    server: "Server",
    tmp_path: Path,
    read: Callable[[Datas3t], list[bytes]],
    spoil: Callable[[bytes], bytes],
) -> None:
    upload(site, tmp_path)
    etag = put_index(site, spoil)
    with psycopg.connect(server._settings.db_url) as connection:
        changed = connection.execute(
            "UPDATE dataranges SET index_etag = %s WHERE id = %s",
            [etag, site.client.list_dataranges(site.name)[0].id],
        )
        assert changed.rowcount == 1
    handle = site.client.datas3t(site.name)
    for _ in range(2):
        with pytest.raises(ArchiveError, match="datarange 100 to 109 does not fit its archive"):
            read(handle)


def upload(site: Site, folder: Path) -> None:
    path = folder / "100.tar"
    path.write_bytes(tar(CONTENTS))
    site.upload(Sample(path, CONTENTS))


def put_index(site: Site, spoil: Callable[[bytes], bytes]) -> str:
    """Puts another index into the place of the only one; its ETag."""
    (found,) = site.client.list_dataranges(site.name)
    wrong = spoil(site.object(found.index_object_key))
    return site.s3.put_object(Bucket=site.bucket, Key=found.index_object_key, Body=wrong)["ETag"].strip('"')


def many(own: Shelf, count: int = 2560) -> tuple[Datas3t, dict[int, bytes]]:
    """A handle on an archive whose index has `count` / 256 windows."""
    contents = {key: b"%d" % key for key in range(count)}
    return own.handle(tar(contents)), contents


@pytest.fixture
def price_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four windows of an index of ten cost less than all of it, and five more."""
    monkeypatch.setattr(index_files, "_SMALL", 1024)
    monkeypatch.setattr(Costs, "latency", 1e-3)
    monkeypatch.setattr(Costs, "per_request", 1e-3)
    monkeypatch.setattr(Costs, "per_byte", 4.5e-3 / (2560 * index.RECORD_SIZE))


@pytest.mark.usefixtures("price_of_four")
def test_a_large_index_is_read_in_windows_until_they_have_cost_what_all_of_it_costs(own: Shelf) -> None:
    handle, contents = many(own)
    gets = []
    for key in range(100, 2560, 256):
        assert handle.get(key) == contents[key]
        assert handle.get(key + 1) == contents[key + 1], "of the same window"
        gets.append(own.index_gets)
    assert gets == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    sizes = [seen.headers["range"] for seen in own.server.requests if seen.path.endswith(".index")]
    assert sizes[:2] == ["bytes=0-4095", "bytes=4096-8191"]
    assert sizes[4] == "bytes=0-40959"


@pytest.mark.usefixtures("price_of_four")
def test_a_large_index_that_was_read_whole_is_on_disk_for_others(own: Shelf) -> None:
    handle, contents = many(own)
    assert handle.get_many(range(0, 2560, 256)) == [contents[key] for key in range(0, 2560, 256)]
    assert own.index_gets == 1
    again = own.again(handle)
    assert [again.get(key) for key in range(0, 2560, 256)] == [contents[key] for key in range(0, 2560, 256)]
    assert own.index_gets == 1
    (file,) = kept(own.client.cache_dir)
    assert file.stat().st_size == 2560 * index.RECORD_SIZE


@pytest.mark.usefixtures("price_of_four")
def test_a_scan_of_most_of_a_large_index_reads_it_whole_at_once(own: Shelf) -> None:
    handle, contents = many(own)
    assert [each.content for each in handle.scan(500)] == list(contents.values())[500:]
    assert own.index_gets == 1


@pytest.mark.usefixtures("price_of_four")
def test_neighbouring_windows_are_fetched_as_one(own: Shelf) -> None:
    handle, contents = many(own)
    assert handle.get_many([300, 600, 800]) == [contents[key] for key in (300, 600, 800)]
    assert own.index_gets == 1
    assert handle.get_many([2559]) == [contents[2559]]
    assert own.index_gets == 2, "the last window is as long as the rest"


@pytest.mark.parametrize("memory", [0, 5000, 20_000])
@pytest.mark.parametrize("small", [1024, 256 << 10])
def test_however_little_memory_there_is_for_indices_the_answers_are_right(
    own: Shelf, memory: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indices, "_MEMORY", memory)
    monkeypatch.setattr(index_files, "_SMALL", small)
    archives = [{key: b"%d" % key for key in range(first, first + 1000)} for first in range(0, 5000, 1000)]
    handle = own.handle(*map(tar, archives))
    contents = {key: content for each in archives for key, content in each.items()}
    for keys in (range(0, 5000, 499), range(5000), range(4999, -1, -700), [1, 1001, 1, 4001]):
        assert handle.get_many(keys) == [contents[key] for key in keys]
        assert handle._indices._size <= memory
        assert sum(map(len, handle._indices._held.values())) == handle._indices._size
    assert [each.content for each in handle.scan()] == list(contents.values())
    assert [handle.get(key) for key in range(0, 5000, 499)] == [contents[key] for key in range(0, 5000, 499)]
