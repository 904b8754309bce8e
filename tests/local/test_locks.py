"""Locks, and files on disk, that a stopped process holds: nobody waits for ever."""

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.local.disk_cache import DiskCache
from datas3t.local.locks import held

_HOLDER = """
import sys
from pathlib import Path
from datas3t.local.locks import held
with held(Path(sys.argv[1]), wait=0, keep=True):
    print("held", flush=True)
    sys.stdin.read()
"""
NAME = hashlib.sha256(b"any").hexdigest()

Stop = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def stopped() -> Iterator[Stop]:
    """Starts a process that holds a lock file, and stops it."""
    holders: list[subprocess.Popen[bytes]] = []

    def stop(path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _HOLDER, str(path)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        return holder

    yield stop
    for holder in holders:
        holder.send_signal(signal.SIGCONT)
        holder.communicate()


def test_a_stopped_holder_is_not_waited_for_without_end(tmp_path: Path, stopped: Stop) -> None:
    path = tmp_path / "lock"
    holder = stopped(path)
    for wait in (0, 0.1):
        with pytest.raises(BlockingIOError), held(path, wait=wait):
            pass
    holder.send_signal(signal.SIGCONT)
    holder.communicate()
    with held(path, wait=0):
        pass
    assert not path.exists()


def test_who_waits_gets_the_lock_when_it_is_free_though_its_file_goes(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", list[int]()
    begun = threading.Barrier(8)

    def work(number: int) -> None:
        begun.wait()
        for _ in range(20):
            with held(path, wait=60):
                inside.append(number)
                assert inside == [number]
                inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert not path.exists()


def test_a_file_that_a_stopped_process_fetches_is_not_waited_for(tmp_path: Path, stopped: Stop) -> None:
    stopped(tmp_path / f"{NAME}.lock")
    with pytest.raises(BlockingIOError):
        DiskCache(tmp_path, 1000, patience=0.1).open(NAME, 3, lambda: [b"abc"])


def test_a_file_that_cannot_be_counted_is_not_kept(tmp_path: Path, stopped: Stop) -> None:
    holder = stopped(tmp_path / ".size")
    cache = DiskCache(tmp_path, 1000, patience=0.1)
    with pytest.raises(BlockingIOError):
        cache.fill([(NAME, 3)], lambda _: [b"abc"])
    assert [path.name for path in tmp_path.iterdir()] == [".size"]
    holder.send_signal(signal.SIGCONT)
    holder.communicate()
    cache.fill([(NAME, 3)], lambda _: [b"abc"])
    assert (tmp_path / NAME).read_bytes() == b"abc"
