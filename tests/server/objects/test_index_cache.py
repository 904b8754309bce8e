"""The cache of indices, and the disk cache that it uses: shared, limited in size, and filled with one fetch."""

import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.archive import index
from datas3t.archive.index import Entry
from datas3t.local.disk_cache import DiskCache
from datas3t.server import downloads
from datas3t.server.objects import index_cache
from datas3t.server.objects.index_cache import IndexCache
from tests.support.stack import wait_until
from tests.support.uploads import Site, archive

RAW = index.encode([Entry(0, 1, 10), Entry(1024, 3, 600)])
WHERE = ("http://s3:9000", "bucket", "datas3t/a/dataranges/1.index", "0123abcd")


def name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Return the files of a cache, without the count that all processes share."""
    return [file for file in folder.iterdir() if file.name != ".size"]


def fetcher(raw: bytes, calls: list[int]) -> Callable[[int, int], Iterator[bytes]]:
    """Return a function that fetches the whole index and adds an item to `calls` each time."""

    def fetch(start: int, stop: int) -> Iterator[bytes]:
        assert (start, stop) == (0, len(raw)), "the whole index"
        calls.append(1)
        yield raw[:7]
        yield raw[7:]

    return fetch


def test_an_index_is_fetched_once_into_a_file_with_the_documented_name(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    for _ in range(3):
        assert cache.entry(*WHERE, 1, 2, fetcher(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 1
    (file,) = files_in(tmp_path)
    assert file.name == hashlib.sha256("".join(f"{each}\n" for each in WHERE).encode()).hexdigest()
    assert file.read_bytes() == RAW
    assert (cache.hits, cache.misses, cache.bytes_used()) == (2, 1, 32)


@pytest.mark.parametrize("torn", [RAW[:-1], b"", RAW + b"x", bytes(32)])
def test_a_torn_index_is_fetched_again(torn: bytes, tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, fetcher(RAW, calls))
    (file,) = files_in(tmp_path)
    file.write_bytes(torn)
    assert cache.entry(*WHERE, 1, 2, fetcher(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 2
    assert file.read_bytes() == RAW


def test_an_index_with_another_etag_is_another_file(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, fetcher(RAW, calls))
    cache.entry(*WHERE[:3], "another", 0, 2, fetcher(RAW, calls))
    assert len(calls) == 2


def test_a_fetch_that_fails_or_returns_another_size_leaves_no_file(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    with pytest.raises(ValueError, match="3 bytes were fetched instead of 5"):
        cache.open(name(1), 5, lambda: [b"abc"])
    with pytest.raises(ValueError, match="more than the 5 expected bytes"):
        cache.open(name(1), 5, lambda: itertools.repeat(b"abc"))

    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise ConnectionError("closed")

    with pytest.raises(ConnectionError):
        cache.open(name(1), 5, broken)
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_files_are_removed_and_the_size_stays_limited(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    for number in range(10):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        os.utime(tmp_path / name(number), ns=(number, number))
    cache.open(name(0), 100, lambda: [b"never"]).close()
    for number in range(10, 13):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        assert cache.bytes_used() <= 1000
    left = {file.name for file in files_in(tmp_path)}
    assert left == {name(number) for number in (0, *range(4, 13))}


def test_a_full_folder_is_not_scanned_for_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, scans = DiskCache(tmp_path, 10_000), list[object]()
    scandir = os.scandir

    def count_scan(folder: Path) -> object:
        scans.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", count_scan)
    for number in range(400):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
    assert len(scans) <= 400 * 100 / (10_000 / 16) * 1.5


def test_the_limit_holds_for_all_processes_together(tmp_path: Path) -> None:
    caches = [DiskCache(tmp_path, 10_000) for _ in range(20)]  # each has counted only its own files
    for number in range(400):
        caches[number % 20].open(name(number), 100, lambda: [bytes(100)]).close()
        assert caches[0].bytes_used() <= 10_000
    assert caches[0].bytes_used() >= 9_000


@pytest.mark.parametrize("count", [b"", b"torn", bytes(8), b"\xff" * 8])
def test_a_wrong_count_is_corrected(count: bytes, tmp_path: Path) -> None:
    for number in range(8):
        DiskCache(tmp_path, 1000).open(name(number), 100, lambda: [bytes(100)]).close()
    (tmp_path / ".size").write_bytes(count)
    cache = DiskCache(tmp_path, 1000)
    for number in range(10, 16):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        assert cache.bytes_used() <= 1000
    assert len(files_in(tmp_path)) >= 9


def test_files_that_are_being_fetched_are_not_removed(tmp_path: Path) -> None:
    cache, begun, go_on = DiskCache(tmp_path, 100), threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"ab"
        begun.set()
        go_on.wait(30)
        yield b"cd"

    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(cache.open, name(1), 4, slow)
        begun.wait(30)
        for number in range(2, 6):
            cache.open(name(number), 90, lambda: [bytes(90)]).close()
        go_on.set()
        with fetched.result(30) as file:
            assert file.read(0, 4) == b"abcd"
    assert (tmp_path / name(1)).read_bytes() == b"abcd"


def test_files_of_dead_processes_are_removed_and_those_of_running_fetches_are_not(tmp_path: Path) -> None:
    for left in (f"{name(1)}.part", f"{name(1)}.lock", f"{name(2)}.lock"):
        (tmp_path / left).write_bytes(b"x")

    def fetch() -> Iterator[bytes]:
        DiskCache(tmp_path, 1000).open(name(4), 1, lambda: [b"x"]).close()  # its first scan of the folder
        yield b"abc"

    with DiskCache(tmp_path, 1000).open(name(3), 3, fetch) as file:
        assert file.read(0, 3) == b"abc"
    assert {file.name for file in files_in(tmp_path)} == {name(3), name(4)}


def test_a_folder_that_was_removed_is_created_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 1000)
    cache.open(name(1), 1, lambda: [b"x"]).close()
    shutil.rmtree(tmp_path / "cache")
    assert cache.bytes_used() == 0
    with cache.open(name(1), 1, lambda: [b"x"]) as file:
        assert file.read(0, 1) == b"x"


def test_a_file_larger_than_the_limit_is_returned_but_not_kept(tmp_path: Path) -> None:
    with DiskCache(tmp_path, 10).open(name(1), 20, lambda: [bytes(20)]) as file:
        assert file.read(0, 20) == bytes(20)
    assert list(tmp_path.iterdir()) == []


def test_an_open_file_can_be_read_after_its_removal(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    with cache.open(name(1), 100, lambda: [b"1" * 100]) as file:
        cache.open(name(2), 100, lambda: [b"2" * 100]).close()
        assert not (tmp_path / name(1)).exists()
        assert file.read(99, 100) == b"1"


def test_files_that_are_not_of_the_cache_are_left_alone(tmp_path: Path) -> None:
    others = ("notes.txt", "f" * 63, "F" * 64, "f" * 64 + ".old", "x.part")
    for other in others:
        (tmp_path / other).write_bytes(bytes(5000))
    cache = DiskCache(tmp_path, 100)
    for number in range(5):
        cache.open(name(number), 90, lambda: [bytes(90)]).close()
    assert all((tmp_path / other).stat().st_size == 5000 for other in others)
    assert cache.bytes_used() <= 100


def test_threads_that_need_the_same_missing_file_fetch_it_once_and_block_no_others(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[int]()
    go_on = threading.Event()

    def slow() -> Iterator[bytes]:
        calls.append(1)
        yield b"ab"
        go_on.wait(30)
        yield b"cd"

    results: list[bytes] = []

    def read() -> None:
        with cache.open(name(1), 4, slow) as file:
            results.append(file.read(0, 4))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(calls))
    cache.open(name(2), 1, lambda: [b"x"]).close()
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [b"abcd"] * 8
    assert len(calls) == 1


_PROCESS = """
import sys, time
from datas3t.local.disk_cache import DiskCache
folder, name, log, pause = sys.argv[1:]
def fetch():
    with open(log, "a") as out:
        out.write("fetched\\n")
    yield b"a" * 500
    time.sleep(float(pause))
    yield b"b" * 500
with DiskCache(folder, 1 << 20).open(name, 1000, fetch) as file:
    assert file.read(0, 1000) == b"a" * 500 + b"b" * 500
"""


def spawn(folder: Path, log: Path, pause: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _PROCESS, str(folder), name(1), str(log), str(pause)])


def test_processes_that_need_the_same_missing_file_fetch_it_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    processes = [spawn(folder, log, 0.3) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    assert log.read_text().count("fetched") == 1


def test_a_process_that_is_killed_during_a_fetch_blocks_no_others_and_leaves_no_file(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    victim = spawn(folder, log, 60)
    wait_until(lambda: log.exists() and (folder / f"{name(1)}.part").exists())
    victim.kill()
    victim.wait()
    began = time.monotonic()
    assert spawn(folder, log, 0).wait(60) == 0
    assert time.monotonic() - began < 30
    assert {file.name for file in folder.iterdir()} == {name(1), ".size"}


_FORKING = """
import os, sys, threading, time
from datas3t.local.disk_cache import DiskCache
folder, name, killed = sys.argv[1:]
begun, forked = threading.Event(), threading.Event()
def slow():
    yield b"ab"
    begun.set()
    forked.wait(30)
    yield b"cd"
asking = [threading.Thread(target=lambda: DiskCache(folder, 1000).open(name, 4, slow).close()) for _ in range(2)]
for thread in asking:
    thread.start()
begun.wait(30)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()  # lives until the test ends its input
    os._exit(0)
if killed == "killed":
    os.kill(os.getpid(), 9)
forked.set()
for thread in asking:
    thread.join()
os._exit(0)
"""


@pytest.mark.parametrize("end", ["killed", "unharmed"])
def test_a_child_that_is_forked_during_a_fetch_blocks_no_others(end: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING, str(tmp_path), name(1), end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert int(parent.stdout.readline()) > 0, "the child runs, with the descriptors of its parent"
        assert parent.wait(20) == (-9 if end == "killed" else 0)
        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(DiskCache(tmp_path, 1000).open, name(1), 4, lambda: [b"abcd"])
            with opened.result(20) as file:
                assert file.read(0, 4) == b"abcd"


_WRITER = """
import hashlib, random, sys
from datas3t.local.disk_cache import DiskCache
cache, seeded = DiskCache(sys.argv[1], 100_000), random.Random(int(sys.argv[2]))
while True:
    number = seeded.randrange(200)
    content = hashlib.sha256(b"%d" % number).digest() * (20 + number)
    with cache.open(hashlib.sha256(content).hexdigest(), len(content), lambda: [content[:100], content[100:]]) as file:
        assert file.read(0, len(content)) == content
    print(number, flush=True)
"""


def test_writers_that_are_killed_at_any_time_leave_complete_files_within_the_limit(tmp_path: Path) -> None:
    seeded = random.Random(1)
    for turn in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(3 * turn + n)], stdout=subprocess.PIPE)
            for n in range(3)
        ]
        for writer in writers:
            assert writer.stdout
            for _ in range(seeded.randrange(1, 100)):
                assert writer.stdout.readline(), "a writer failed"
            writer.kill()
            writer.wait()
            writer.stdout.close()
    cache = DiskCache(tmp_path, 100_000)
    cache.open(name(1), 1, lambda: [b"x"]).close()
    assert cache.bytes_used() <= 100_000
    (tmp_path / name(1)).unlink()
    assert all(file.name == hashlib.sha256(file.read_bytes()).hexdigest() for file in files_in(tmp_path))


def test_on_a_full_disk_entries_are_read_one_by_one(tmp_path: Path) -> None:
    program = """if True:
        import resource, sys
        from datas3t.server.objects.index_cache import IndexCache
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # fails in the middle of a write, as a full disk does
        raw, asked = bytes.fromhex(sys.argv[2]), []
        def fetch(start, stop):
            asked.append((start, stop))
            yield raw[start:stop]
        entry = IndexCache(sys.argv[1], 1 << 20).entry("http://s3:9000", "bucket", "key", "etag", 1, 2, fetch)
        print(*entry, asked)
    """
    command = [sys.executable, "-c", program, str(tmp_path), RAW.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1024 3 600 [(0, 32), (16, 32)]\n"
    assert done.stderr == "the index cache fails (File too large): entries are read from S3 one by one\n"
    assert files_in(tmp_path) == []


def test_downloads_work_while_the_cache_folder_does_not(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "_BYPASS_SECONDS", 0)
    folder = tmp_path / "cache"
    site.upload(archive(1, b"one", b"two", b"three"))
    shutil.rmtree(folder)
    folder.write_text("no folder")
    for _ in range(2):
        ((segment,), _, _) = downloads.presign(site.resources, "images", 2, 2)
        assert (segment.start, segment.stop) == (1024, 2048)
    assert caplog.text.count("the index cache fails") == 1
    folder.unlink()
    downloads.presign(site.resources, "images", 2, 2)
    assert len(files_in(folder)) == 1


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        IndexCache(tmp_path / "file", 1)
