"""The cache on disk: shared, bounded, whole or not there, fetched once."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datas3t.archive import index
from datas3t.archive.disk_cache import DiskCache
from datas3t.archive.index import Entry
from datas3t.server.index_cache import IndexCache
from tests.support.stack import wait_until

RAW = index.encode([Entry(0, 1, 10), Entry(1024, 3, 600)])
WHERE = ("http://s3:9000", "bucket", "datas3t/a/dataranges/1.index", "0123abcd")


def name(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def once(raw: bytes, calls: list[int]) -> Callable[[], Iterator[bytes]]:
    def fetch() -> Iterator[bytes]:
        calls.append(1)
        yield raw[:7]
        yield raw[7:]

    return fetch


def test_an_index_is_fetched_once_and_its_file_is_named_and_filled_as_documented(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    for _ in range(3):
        assert cache.entry(*WHERE, 1, 2, once(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 1
    (file,) = tmp_path.iterdir()
    assert file.name == hashlib.sha256("".join(f"{each}\n" for each in WHERE).encode()).hexdigest()
    assert file.read_bytes() == RAW
    assert cache.numbers() == {"hits": 2, "misses": 1, "bytes": 32}


@pytest.mark.parametrize("torn", [RAW[:-1], b"", RAW + b"x", bytes(32)])
def test_a_torn_index_is_fetched_anew(torn: bytes, tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, once(RAW, calls))
    (file,) = tmp_path.iterdir()
    file.write_bytes(torn)
    assert cache.entry(*WHERE, 1, 2, once(RAW, calls)) == Entry(1024, 3, 600)
    assert len(calls) == 2
    assert file.read_bytes() == RAW


def test_another_etag_is_another_index(tmp_path: Path) -> None:
    cache, calls = IndexCache(tmp_path, 1 << 20), list[int]()
    cache.entry(*WHERE, 0, 2, once(RAW, calls))
    cache.entry(*WHERE[:3], "another", 0, 2, once(RAW, calls))
    assert len(calls) == 2


def test_a_fetch_that_fails_or_is_short_leaves_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    with pytest.raises(ValueError, match="3 bytes were fetched instead of 5"):
        cache.open(name(1), 5, lambda: [b"abc"])

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
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {name(number) for number in (0, *range(4, 13))}


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
from datas3t.archive.disk_cache import DiskCache
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
    assert {file.name for file in folder.iterdir()} == {name(1)}


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        IndexCache(tmp_path / "file", 1)
