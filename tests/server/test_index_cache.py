"""The cache on disk: shared, bounded, whole or not there, fetched once."""

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
from datas3t.server import downloads, index_cache
from datas3t.server.index_cache import IndexCache
from tests.support.stack import wait_until
from tests.support.uploads import Site, archive

RAW = index.encode([Entry(0, 1, 10), Entry(1024, 3, 600)])
WHERE = ("http://s3:9000", "bucket", "datas3t/a/dataranges/1.index", "0123abcd")


def name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def kept(folder: Path) -> list[Path]:
    """What is in the folder, but for the count that all processes share."""
    return [file for file in folder.iterdir() if file.name != ".size"]


def once(raw: bytes, calls: list[int]) -> Callable[[int, int], Iterator[bytes]]:
    def fetch(start: int, stop: int) -> Iterator[bytes]:
        assert (start, stop) == (0, len(raw)), "the whole index"
        calls.append(1)
        yield raw[:7]
        yield raw[7:]

    return fetch


def test_an_index_is_fetched_once_and_its_file_is_named_and_filled_as_documented(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    for _ in range(3):
        assert cache.entry(*WHERE, 1, 2, once(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 1
    (file,) = kept(tmp_path)
    assert file.name == hashlib.sha256("".join(f"{each}\n" for each in WHERE).encode()).hexdigest()
    assert file.read_bytes() == RAW
    assert cache.numbers() == {"hits": 2, "misses": 1, "bytes": 32}


@pytest.mark.parametrize("torn", [RAW[:-1], b"", RAW + b"x", bytes(32)])
def test_a_torn_index_is_fetched_anew(torn: bytes, tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, once(RAW, calls))
    (file,) = kept(tmp_path)
    file.write_bytes(torn)
    assert cache.entry(*WHERE, 1, 2, once(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 2
    assert file.read_bytes() == RAW


def test_another_etag_is_another_index(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, once(RAW, calls))
    cache.entry(*WHERE[:3], "another", 0, 2, once(RAW, calls))
    assert len(calls) == 2


def test_a_fetch_that_fails_or_is_short_or_does_not_end_leaves_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    with pytest.raises(ValueError, match="3 bytes were fetched instead of 5"):
        cache.open(name(1), 5, lambda: [b"abc"])
    with pytest.raises(ValueError, match="more than the 5 expected bytes"):
        cache.open(name(1), 5, lambda: itertools.repeat(b"abc"))

    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        cache.open(name(1), 5, broken)
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_go_first_and_the_bound_holds(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    for number in range(10):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        os.utime(tmp_path / name(number), ns=(number, number))
    cache.open(name(0), 100, lambda: [b"never"]).close()
    for number in range(10, 13):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        assert cache.bytes_used() <= 1000
    left = {file.name for file in kept(tmp_path)}
    assert left == {name(number) for number in (0, *range(4, 13))}


def test_a_full_folder_is_not_looked_through_for_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, looks = DiskCache(tmp_path, 10_000), list[object]()
    scandir = os.scandir

    def look(folder: Path) -> object:
        looks.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", look)
    for number in range(400):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
    assert len(looks) <= 400 * 100 / (10_000 / 16) * 1.5


def test_the_bound_is_that_of_all_processes_together(tmp_path: Path) -> None:
    caches = [DiskCache(tmp_path, 10_000) for _ in range(20)]  # each knows only what it put there itself
    for number in range(400):
        caches[number % 20].open(name(number), 100, lambda: [bytes(100)]).close()
        assert caches[0].bytes_used() <= 10_000
    assert caches[0].bytes_used() >= 9_000


@pytest.mark.parametrize("count", [b"", b"torn", bytes(8), b"\xff" * 8])
def test_a_wrong_count_is_set_right(count: bytes, tmp_path: Path) -> None:
    for number in range(8):
        DiskCache(tmp_path, 1000).open(name(number), 100, lambda: [bytes(100)]).close()
    (tmp_path / ".size").write_bytes(count)
    cache = DiskCache(tmp_path, 1000)
    for number in range(10, 16):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        assert cache.bytes_used() <= 1000
    assert len(kept(tmp_path)) >= 9


def test_files_that_are_being_fetched_are_not_evicted(tmp_path: Path) -> None:
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
        with fetched.result(30) as found:
            assert found.read(0, 4) == b"abcd"
    assert (tmp_path / name(1)).read_bytes() == b"abcd"


def test_what_the_dead_left_is_removed_and_what_the_living_fetch_is_not(tmp_path: Path) -> None:
    for left in (f"{name(1)}.part", f"{name(1)}.lock", f"{name(2)}.lock"):
        (tmp_path / left).write_bytes(b"x")

    def fetch() -> Iterator[bytes]:
        DiskCache(tmp_path, 1000).open(name(4), 1, lambda: [b"x"]).close()  # its first look at the folder
        yield b"abc"

    with DiskCache(tmp_path, 1000).open(name(3), 3, fetch) as found:
        assert found.read(0, 3) == b"abc"
    assert {file.name for file in kept(tmp_path)} == {name(3), name(4)}


def test_a_folder_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 1000)
    cache.open(name(1), 1, lambda: [b"x"]).close()
    shutil.rmtree(tmp_path / "cache")
    assert cache.bytes_used() == 0
    with cache.open(name(1), 1, lambda: [b"x"]) as found:
        assert found.read(0, 1) == b"x"


def test_what_is_larger_than_the_bound_is_served_and_not_kept(tmp_path: Path) -> None:
    with DiskCache(tmp_path, 10).open(name(1), 20, lambda: [bytes(20)]) as found:
        assert found.read(0, 20) == bytes(20)
    assert list(tmp_path.iterdir()) == []


def test_an_open_file_outlives_its_eviction(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    with cache.open(name(1), 100, lambda: [b"1" * 100]) as found:
        cache.open(name(2), 100, lambda: [b"2" * 100]).close()
        assert not (tmp_path / name(1)).exists()
        assert found.read(99, 100) == b"1"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = ("notes.txt", "f" * 63, "F" * 64, "f" * 64 + ".old", "x.part")
    for other in others:
        (tmp_path / other).write_bytes(bytes(5000))
    cache = DiskCache(tmp_path, 100)
    for number in range(5):
        cache.open(name(number), 90, lambda: [bytes(90)]).close()
    assert all((tmp_path / other).stat().st_size == 5000 for other in others)
    assert cache.bytes_used() <= 100


def test_many_threads_that_miss_the_same_fetch_it_once_and_hold_up_no_other(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[int]()
    go_on = threading.Event()

    def slow() -> Iterator[bytes]:
        calls.append(1)
        yield b"ab"
        go_on.wait(30)
        yield b"cd"

    results: list[bytes] = []

    def ask() -> None:
        with cache.open(name(1), 4, slow) as found:
            results.append(found.read(0, 4))

    threads = [threading.Thread(target=ask) for _ in range(8)]
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
with DiskCache(folder, 1 << 20).open(name, 1000, fetch) as found:
    assert found.read(0, 1000) == b"a" * 500 + b"b" * 500
"""


def spawn(folder: Path, log: Path, pause: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _PROCESS, str(folder), name(1), str(log), str(pause)])


def test_many_processes_that_miss_the_same_fetch_it_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    processes = [spawn(folder, log, 0.3) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    assert log.read_text().count("fetched") == 1


def test_a_process_killed_while_it_fetches_holds_up_nobody_and_leaves_nothing(tmp_path: Path) -> None:
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
def test_a_child_forked_during_a_fetch_holds_up_nobody(end: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING, str(tmp_path), name(1), end], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert int(parent.stdout.readline()) > 0, "the child lives, and holds what it was born with"
        assert parent.wait(20) == (-9 if end == "killed" else 0)
        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(DiskCache(tmp_path, 1000).open, name(1), 4, lambda: [b"abcd"])
            with opened.result(20) as found:
                assert found.read(0, 4) == b"abcd"


_WRITER = """
import hashlib, random, sys
from datas3t.local.disk_cache import DiskCache
cache, seeded = DiskCache(sys.argv[1], 100_000), random.Random(int(sys.argv[2]))
while True:
    number = seeded.randrange(200)
    content = hashlib.sha256(b"%d" % number).digest() * (20 + number)
    with cache.open(hashlib.sha256(content).hexdigest(), len(content), lambda: [content[:100], content[100:]]) as found:
        assert found.read(0, len(content)) == content
    print(number, flush=True)
"""


def test_writers_killed_at_any_moment_leave_only_whole_files_and_the_bound(tmp_path: Path) -> None:
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
    assert all(file.name == hashlib.sha256(file.read_bytes()).hexdigest() for file in kept(tmp_path))


def test_on_a_full_disk_entries_are_read_one_by_one(tmp_path: Path) -> None:
    program = """if True:
        import resource, sys
        from datas3t.server.index_cache import IndexCache
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # as a full disk, in the middle of a write
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
    assert done.stderr == "the index cache fails (File too large): entries of indices are read from S3, one by one\n"
    assert kept(tmp_path) == []


def test_downloads_go_on_where_the_cache_folder_is_broken(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "_DIRECT", 0)
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
    assert len(kept(folder)) == 1


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        IndexCache(tmp_path / "file", 1)
