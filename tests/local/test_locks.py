"""Lock files, and the disk cache if a stopped process holds its locks: nothing waits without end."""

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
from datas3t.local.locks import locked

_HOLDER = """
import sys
from pathlib import Path
from datas3t.local.locks import locked
with locked(Path(sys.argv[1]), wait=0, keep=True):
    print("held", flush=True)
    sys.stdin.read()
"""
NAME = hashlib.sha256(b"any").hexdigest()

StartStopped = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def stopped_holder() -> Iterator[StartStopped]:
    """Return a function that starts a process which holds a lock file, and stops it."""
    holders: list[subprocess.Popen[bytes]] = []

    def start(path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _HOLDER, str(path)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        return holder

    yield start
    for holder in holders:
        holder.send_signal(signal.SIGCONT)
        holder.communicate()


def test_waiting_for_a_stopped_holder_ends_with_an_error(tmp_path: Path, stopped_holder: StartStopped) -> None:
    path = tmp_path / "lock"
    holder = stopped_holder(path)
    for wait in (0, 0.1):
        with pytest.raises(BlockingIOError), locked(path, wait=wait):
            pass
    holder.send_signal(signal.SIGCONT)
    holder.communicate()
    with locked(path, wait=0):
        pass
    assert not path.exists()


def test_each_waiting_thread_gets_the_lock_though_holders_remove_its_file(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", list[int]()
    begun = threading.Barrier(8)

    def work(number: int) -> None:
        begun.wait()
        for _ in range(20):
            with locked(path, wait=60):
                inside.append(number)
                assert inside == [number]
                inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert not path.exists()


def test_waiting_for_a_file_that_a_stopped_process_fetches_ends_with_an_error(
    tmp_path: Path, stopped_holder: StartStopped
) -> None:
    stopped_holder(tmp_path / f"{NAME}.lock")
    with pytest.raises(BlockingIOError):
        DiskCache(tmp_path, 1000, max_wait=0.1).open(NAME, 3, lambda: [b"abc"])


def test_a_file_is_not_kept_if_it_cannot_be_counted(tmp_path: Path, stopped_holder: StartStopped) -> None:
    holder = stopped_holder(tmp_path / ".size")
    cache = DiskCache(tmp_path, 1000, max_wait=0.1)
    with pytest.raises(BlockingIOError):
        cache.fill([(NAME, 3)], lambda _: [b"abc"])
    assert [path.name for path in tmp_path.iterdir()] == [".size"]
    holder.send_signal(signal.SIGCONT)
    holder.communicate()
    cache.fill([(NAME, 3)], lambda _: [b"abc"])
    assert (tmp_path / NAME).read_bytes() == b"abc"
