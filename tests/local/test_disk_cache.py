"""Files of the disk cache that are looked up, fetched together and removed."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.local.disk_cache import Cached, DiskCache
from datas3t.local.locks import locked


def name(number: int) -> str:
    """Return the name of a test file in the cache."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def content(number: int) -> bytes:
    """Return its content."""
    return b"%d" % number * 100


WANTED = [(name(number), len(content(number))) for number in range(5)]


def fetch(calls: list[list[int]]) -> Callable[[Sequence[int]], list[bytes]]:
    """Return a function that makes contents, and records for which files it was called."""

    def fetched(numbers: Sequence[int]) -> list[bytes]:
        calls.append(list(numbers))
        return [content(number) for number in numbers]

    return fetched


def files(folder: Path) -> dict[str, bytes]:
    """Return the files in the folder, except for the count that all processes share."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".size"}


def test_a_missing_file_or_one_of_another_size_is_not_found(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    cache.open(name(1), 100, lambda: [content(1)]).close()
    assert cache.find(name(2), 100) is None
    assert cache.find(name(1), 99) is None
    found = cache.find(name(1), 100)
    assert found
    with found:
        assert found.read(0, 100) == content(1)
    assert (cache.hits, cache.misses) == (1, 1)


def test_an_invalid_file_is_not_found_and_exists_until_it_is_removed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    cache.open(name(1), 100, lambda: [content(1)]).close()

    def is_valid(cached: Cached) -> bool:
        return cached.read(0, 1) == b"2"

    assert cache.find(name(1), 100, is_valid=is_valid) is None
    assert files(tmp_path) == {name(1): content(1)}
    cache.remove(name(1))
    assert files(tmp_path) == {}
    cache.remove(name(1))


def test_a_file_is_closed_if_the_disk_fails_while_it_is_checked(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    cache.open(name(1), 100, lambda: [content(1)]).close()

    def failing(cached: Cached) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(OSError, match="Input/output"):
            cache.find(name(1), 100, is_valid=failing)
    assert len(os.listdir("/proc/self/fd")) == before


def test_finding_a_file_counts_as_using_it(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 250)
    for number in (1, 2):
        cache.open(name(number), 100, lambda: [bytes(100)]).close()
        os.utime(tmp_path / name(number), ns=(number, number))
    found = cache.find(name(1), 100)
    assert found
    found.close()
    cache.open(name(3), 100, lambda: [content(3)]).close()
    assert set(files(tmp_path)) == {name(1), name(3)}


def test_all_missing_files_are_fetched_in_one_call(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[list[int]]()
    cache.open(name(3), 100, lambda: [content(3)]).close()
    cache.fill(WANTED, fetch(calls))
    assert calls == [[0, 1, 2, 4]]
    assert files(tmp_path) == {name(number): content(number) for number in range(5)}
    cache.fill(WANTED, fetch(calls))
    assert len(calls) == 1, "nothing is missing"
    assert cache.misses == 5


def test_a_torn_file_is_fetched_again(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[list[int]]()
    cache.fill(WANTED, fetch(calls))
    (tmp_path / name(2)).write_bytes(b"torn")
    cache.fill(WANTED, fetch(calls))
    assert calls == [[0, 1, 2, 3, 4], [2]]
    assert (tmp_path / name(2)).read_bytes() == content(2)


def test_a_file_that_another_thread_fetches_is_left_out(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[list[int]]()
    begun, finish = threading.Event(), threading.Event()

    def slow() -> list[bytes]:
        begun.set()
        assert finish.wait(30)
        return [content(2)]

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cache.open, name(2), 100, slow)
        assert begun.wait(30)
        cache.fill(WANTED, fetch(calls))
        assert calls == [[0, 1, 3, 4]]
        assert set(files(tmp_path)) >= {name(number) for number in (0, 1, 3, 4)}
        assert name(2) not in files(tmp_path)
        finish.set()
        other.result(30).close()
    assert files(tmp_path) == {name(number): content(number) for number in range(5)}


_HOLDER = """
import sys
from datas3t.local.locks import locked
from pathlib import Path
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_fetches_is_left_out(tmp_path: Path) -> None:
    cache, calls = DiskCache(tmp_path, 1 << 20), list[list[int]]()
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / f"{name(2)}.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        cache.fill(WANTED, fetch(calls))
        holder.communicate()
    assert calls == [[0, 1, 3, 4]]
    cache.fill(WANTED, fetch(calls))
    assert calls[1:] == [[2]]


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(101)])
def test_a_content_of_another_size_is_refused_and_leaves_no_file(wrong: bytes, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)
    with pytest.raises(ValueError, match="were fetched"):
        cache.fill(WANTED[1:2], lambda _: [wrong])
    assert files(tmp_path) == {}


def test_a_fetch_that_fails_leaves_no_file_and_no_lock(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)

    def broken(_: Sequence[int]) -> list[bytes]:
        raise ConnectionError("connection lost")

    with pytest.raises(ConnectionError):
        cache.fill(WANTED, broken)
    assert files(tmp_path) == {}
    for wanted, _ in WANTED:
        with locked(tmp_path / f"{wanted}.lock", wait=False):
            pass


_FILLER = """
import hashlib, sys, time
from datas3t.local.disk_cache import DiskCache
folder, log = sys.argv[1:]
wanted = [(hashlib.sha256(b"%d" % number).hexdigest(), 1000) for number in range(50)]
def fetch(numbers):
    with open(log, "a") as out:
        out.write("".join(f"{number}\\n" for number in numbers))
    return [b"%03d." % number * 250 for number in numbers]
cache = DiskCache(folder, 1 << 20)
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 50, 5):
    cache.fill(wanted[start : start + 5], lambda numbers: fetch([start + number for number in numbers]))
for number, (name, size) in enumerate(wanted):
    with cache.open(name, size, lambda: fetch([number])) as found:  # waits for the process that fetches it
        assert found.read(0, size) == b"%03d." % number * 250
"""


def test_processes_that_fill_concurrently_fetch_each_file_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    command = [sys.executable, "-c", _FILLER, str(folder), str(log)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(map(int, log.read_text().split())) == list(range(50))
    assert set(files(folder)) == {name(number) for number in range(50)}
