"""A test that kill -9 of everything that `datas3t up` runs loses no acknowledged upload."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datas3t.client import Client, Datas3tError
from datas3t.embedded.ports import free_ports
from tests.support.stack import Process, living_in, wait_until
from tests.support.tars import archive, contents

COUNT = 20  # datapoints per archive


class Uploader(threading.Thread):
    """Uploads one archive after another to a datas3t of its own; `acknowledged` are the numbers of those it did."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.acknowledged: list[int] = []
        self.stopping = threading.Event()
        self._url = url
        self._folder = folder

    def run(self) -> None:
        """Upload until `stopping` is set. An archive that was not acknowledged is uploaded again."""
        with Client(self._url, timeout=5) as client:
            client.add_datas3t(self.name, bucket="local")
            number = 0
            while not self.stopping.is_set():
                path = self._folder / f"{self.name}-{number}.tar"
                path.write_bytes(archive(1 + number * COUNT, bodies(self.name, number)))
                with contextlib.suppress(Datas3tError):
                    client.upload_tar(self.name, path)
                    self.acknowledged.append(number)
                    number += 1


def bodies(name: str, number: int) -> list[bytes]:
    """Return the contents of the archive with this number in the datas3t with this name."""
    return contents(number * 1000 + len(name), COUNT, 30_000)


@contextlib.contextmanager
def up(data_dir: Path, port: int, log: Path) -> Iterator[Process]:
    """Yield a `datas3t up` that is ready. Ends it, and fails the test if it does not end well."""
    process = Process(["-m", "datas3t", "up", "--data-dir", data_dir, "--addr", f"127.0.0.1:{port}"], log)
    try:
        wait_until(lambda: not process.running or "ready at" in process.log, 60, "readiness")
        assert process.running, process.log
        yield process
    finally:
        if process.running:
            assert process.terminate(signal.SIGTERM, 60) == 0, process.log


def kill_all(data_dir: Path, process: Process) -> None:
    """Kill the process, and all processes that work in the data directory."""
    for pid in [*(each.pid for each in living_in(data_dir)), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not living_in(data_dir), 30, "the end of all processes")


@pytest.mark.timeout(300)
def test_every_acknowledged_upload_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data_dir, (port,) = tmp_path / "data", free_ports(1)
    url = f"http://127.0.0.1:{port}"

    # Kill everything while three threads upload.
    with up(data_dir, port, tmp_path / "first.log") as process:
        uploaders = [Uploader(url, name, tmp_path) for name in ("a", "bb", "ccc")]
        for uploader in uploaders:
            uploader.start()
        wait_until(lambda: all(len(uploader.acknowledged) >= 5 for uploader in uploaders), 120, "five uploads each")
        kill_all(data_dir, process)
    before = [len(uploader.acknowledged) for uploader in uploaders]

    # Start again: uploads continue, and everything that was acknowledged exists.
    with up(data_dir, port, tmp_path / "second.log"):
        pairs = list(zip(uploaders, before, strict=True))
        wait_until(lambda: all(len(each.acknowledged) > count for each, count in pairs), 120, "further uploads")
        for uploader in uploaders:
            uploader.stopping.set()
        for uploader in uploaders:
            uploader.join(120)
        with Client(url) as client:
            for uploader in uploaders:
                stored = [each.content for each in client.datas3t(uploader.name).scan()]
                assert stored == [body for number in uploader.acknowledged for body in bodies(uploader.name, number)]
                assert uploader.acknowledged == list(range(len(uploader.acknowledged)))
