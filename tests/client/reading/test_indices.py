"""Indices: all handles and processes fetch them once, they are cached on disk, and wrong ones are always noticed."""

import subprocess
import sys
from collections.abc import Callable
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
from tests.client.reading.archive_host import ArchiveHost
from tests.client.sites import Site

if TYPE_CHECKING:
    from datas3t.server.app.server import Server

KEYS = range(100, 110)
CONTENTS = {key: b"%03d" % key * (key - 90) for key in KEYS}
READS: dict[str, Callable[[Datas3t], list[bytes]]] = {
    "get": lambda handle: [handle.get(key) for key in KEYS],
    "get_many": lambda handle: handle.get_many(KEYS),
    "scan": lambda handle: [datapoint.content for datapoint in handle.scan()],
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


def gets(site: Site, kind: bytes) -> int:
    """Return how many objects of this kind were requested through the relay."""
    assert site.relay
    return sum(line.startswith(b"GET ") and kind in line for line in site.relay.requests)


def index_gets(site: Site) -> int:
    """Return how many indices were requested through the relay."""
    return gets(site, b".index?")


def cached_files(folder: Path) -> list[Path]:
    """Return the cached indices."""
    return sorted(file for file in folder.iterdir() if len(file.name) == 64)


def fill(site: Site, folder: Path) -> dict[int, bytes]:
    """Upload three archives and return the content of each key."""
    samples = [sample(folder / f"{first}.tar", first, *[700] * 50) for first in (0, 50, 200)]
    for each in samples:
        site.upload(each)
    return samples[0].contents | samples[1].contents | samples[2].contents


def test_two_handles_fetch_an_index_once(relayed: Site, tmp_path: Path) -> None:
    contents = fill(relayed, tmp_path)
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


@pytest.mark.parametrize("keys", [[], [0, 50, 200]], ids=["in one batch", "one by one"])
def test_processes_that_start_together_fetch_an_index_once(relayed: Site, tmp_path: Path, keys: list[int]) -> None:
    fill(relayed, tmp_path)
    before, sums_before = index_gets(relayed), gets(relayed, b".crc32c?")
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
    assert gets(relayed, b".crc32c?") - sums_before == 3


@every_read
def test_an_unusable_cache_folder_only_costs_speed(host: ArchiveHost, read: Callable[[Datas3t], list[bytes]]) -> None:
    host.client.cache_dir.parent.mkdir(parents=True)
    host.client.cache_dir.write_text("a file of another program")
    handle = host.handle(tar(CONTENTS))
    for _ in range(2):
        assert read(handle) == list(CONTENTS.values())
    assert host.index_gets == 1, "the second time from memory"
    assert read(host.reopen(handle)) == list(CONTENTS.values())
    assert host.client.cache_dir.read_text() == "a file of another program"


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
def test_a_full_disk_only_costs_speed(site: Site, tmp_path: Path, small: int) -> None:
    fill(site, tmp_path)
    set_small = f"from datas3t.client._reading import index_files\nindex_files._SMALL = {small}\n"
    command = [sys.executable, "-c", set_small + _ON_A_FULL_DISK, site.client.url, site.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert cached_files(site.client.cache_dir) == []


@every_read
@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: bytes(len(raw))]
)
def test_a_truncated_or_zeroed_file_is_fetched_again(
    host: ArchiveHost, read: Callable[[Datas3t], list[bytes]], damage: Callable[[bytes], bytes]
) -> None:
    handle = host.handle(tar(CONTENTS))
    handle.get(KEYS[0])
    (file,) = cached_files(host.client.cache_dir)
    correct = file.read_bytes()
    file.write_bytes(damage(correct))
    assert read(host.reopen(handle)) == list(CONTENTS.values())
    assert host.index_gets == 2
    assert file.read_bytes() == correct


def shuffled(raw: bytes) -> bytes:
    """Return an index that fits the size of the archive, but has two entries in the wrong order."""
    entries = index.decode(raw)
    entries[4], entries[5] = entries[5], entries[4]
    position, tiled = 0, []
    for each in entries:
        tiled.append(each._replace(position=position))
        position = tiled[-1].stop
    return index.encode(tiled)


def beyond(raw: bytes) -> bytes:
    """Return an index with one entry after the end of the archive."""
    entries = index.decode(raw)
    entries[4] = entries[4]._replace(position=1 << 40)
    return index.encode(entries)


@every_read
@pytest.mark.parametrize("damage", [shuffled, beyond])
def test_a_file_with_wrong_records_is_noticed_and_fetched_again(
    host: ArchiveHost, read: Callable[[Datas3t], list[bytes]], damage: Callable[[bytes], bytes]
) -> None:
    handle = host.handle(tar(CONTENTS))
    handle.get(KEYS[0])
    (file,) = cached_files(host.client.cache_dir)
    correct = file.read_bytes()
    assert damage(correct) != correct
    file.write_bytes(damage(correct))
    assert read(host.reopen(handle)) == list(CONTENTS.values())
    assert host.index_gets == 2
    assert file.read_bytes() == correct


@every_read
def test_an_index_that_was_replaced_in_s3_is_an_error(
    site: Site, tmp_path: Path, read: Callable[[Datas3t], list[bytes]]
) -> None:
    upload(site, tmp_path)
    put_index(site, shuffled)
    with pytest.raises(ObjectChanged):
        read(site.client.datas3t(site.name))


@every_read
@pytest.mark.parametrize("damage", [shuffled, beyond, lambda raw: raw[:-16] + bytes(16)])
def test_an_index_that_is_wrong_in_s3_raises_an_error_that_names_the_datarange(
    site: Site,
    server: "Server",
    tmp_path: Path,
    read: Callable[[Datas3t], list[bytes]],
    damage: Callable[[bytes], bytes],
) -> None:
    upload(site, tmp_path)
    etag = put_index(site, damage)
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
    """Upload an archive with CONTENTS."""
    path = folder / "100.tar"
    path.write_bytes(tar(CONTENTS))
    site.upload(Sample(path, CONTENTS))


def put_index(site: Site, damage: Callable[[bytes], bytes]) -> str:
    """Replace the only index in S3 and return the new one's ETag."""
    (datarange,) = site.client.list_dataranges(site.name)
    wrong = damage(site.object(datarange.index_object_key))
    return site.s3.put_object(Bucket=site.bucket, Key=datarange.index_object_key, Body=wrong)["ETag"].strip('"')


def many_windows(host: ArchiveHost, count: int = 2560) -> tuple[Datas3t, dict[int, bytes]]:
    """Return a handle on an archive whose index has `count` / 256 windows, and the content of each key."""
    contents = {key: b"%d" % key for key in range(count)}
    return host.handle(tar(contents)), contents


@pytest.fixture
def four_windows_are_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set costs such that four windows cost less than a whole index of ten windows, and five cost more."""
    monkeypatch.setattr(index_files, "_SMALL", 1024)
    monkeypatch.setattr(Costs, "latency", 1e-3)
    monkeypatch.setattr(Costs, "per_request", 1e-3)
    monkeypatch.setattr(Costs, "per_byte", 4.5e-3 / (2560 * index.RECORD_SIZE))


@pytest.mark.usefixtures("four_windows_are_cheaper")
def test_a_large_index_is_read_in_windows_until_they_have_cost_as_much_as_all_of_it(host: ArchiveHost) -> None:
    handle, contents = many_windows(host)
    gets = []
    for key in range(100, 2560, 256):
        assert handle.get(key) == contents[key]
        assert handle.get(key + 1) == contents[key + 1], "from the same window"
        gets.append(host.index_gets)
    assert gets == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    sizes = [seen.headers["range"] for seen in host.server.requests if seen.path.endswith(".index")]
    assert sizes[:2] == ["bytes=0-4095", "bytes=4096-8191"]
    assert sizes[4] == "bytes=0-40959"


@pytest.mark.usefixtures("four_windows_are_cheaper")
def test_a_large_index_that_was_read_whole_is_on_disk_for_other_handles(host: ArchiveHost) -> None:
    handle, contents = many_windows(host)
    assert handle.get_many(range(0, 2560, 256)) == [contents[key] for key in range(0, 2560, 256)]
    assert host.index_gets == 1
    another = host.reopen(handle)
    assert [another.get(key) for key in range(0, 2560, 256)] == [contents[key] for key in range(0, 2560, 256)]
    assert host.index_gets == 1
    (file,) = cached_files(host.client.cache_dir)
    assert file.stat().st_size == 2560 * index.RECORD_SIZE


@pytest.mark.usefixtures("four_windows_are_cheaper")
def test_a_scan_of_most_of_a_large_index_reads_it_whole_at_once(host: ArchiveHost) -> None:
    handle, contents = many_windows(host)
    assert [each.content for each in handle.scan(500)] == list(contents.values())[500:]
    assert host.index_gets == 1


@pytest.mark.usefixtures("four_windows_are_cheaper")
def test_neighbouring_windows_are_fetched_by_one_request(host: ArchiveHost) -> None:
    handle, contents = many_windows(host)
    assert handle.get_many([300, 600, 800]) == [contents[key] for key in (300, 600, 800)]
    assert host.index_gets == 1
    assert handle.get_many([2559]) == [contents[2559]]
    assert host.index_gets == 2, "the last window is another request"


@pytest.mark.parametrize("max_memory", [0, 5000, 20_000])
@pytest.mark.parametrize("small", [1024, 256 << 10])
def test_reads_are_correct_with_any_amount_of_memory_for_indices(
    host: ArchiveHost, max_memory: int, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indices, "_MAX_MEMORY", max_memory)
    monkeypatch.setattr(index_files, "_SMALL", small)
    archives = [{key: b"%d" % key for key in range(first, first + 1000)} for first in range(0, 5000, 1000)]
    handle = host.handle(*map(tar, archives))
    contents = {key: content for each in archives for key, content in each.items()}
    for keys in (range(0, 5000, 499), range(5000), range(4999, -1, -700), [1, 1001, 1, 4001]):
        assert handle.get_many(keys) == [contents[key] for key in keys]
        assert handle._reader.indices._size <= max_memory
        assert sum(map(len, handle._reader.indices._windows.values())) == handle._reader.indices._size
    assert [each.content for each in handle.scan()] == list(contents.values())
    assert [handle.get(key) for key in range(0, 5000, 499)] == [contents[key] for key in range(0, 5000, 499)]
