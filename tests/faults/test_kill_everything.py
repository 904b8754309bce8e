"""kill -9 of all that `datas3t up` runs, under writers, then `up` again: what was acknowledged is there."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datas3t.client import Client, Datas3tError
from datas3t.embedded.ports import free
from tests.support.stack import Process, living_in, wait_until
from tests.support.tars import archive, contents

COUNT = 20  # datapoints of an archive


class Writer(threading.Thread):
    """Uploads archive after archive to a datas3t of its own, and keeps which were acknowledged."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.acknowledged: list[int] = []
        self.stopping = threading.Event()
        self._url = url
        self._folder = folder

    def run(self) -> None:
        with Client(self._url, timeout=5) as client:
            client.add_datas3t(self.name, bucket="local")
            number = 0
            while not self.stopping.is_set():
                path = self._folder / f"{self.name}-{number}.tar"
                path.write_bytes(archive(1 + number * COUNT, bodies(self.name, number)))
                with contextlib.suppress(Datas3tError):  # while everything is away: the same archive again
                    client.upload_tar(self.name, path)
                    self.acknowledged.append(number)
                    number += 1


def bodies(name: str, number: int) -> list[bytes]:
    return contents(number * 1000 + len(name), COUNT, 30_000)


@contextlib.contextmanager
def up(data_dir: Path, port: int, log: Path) -> Iterator[Process]:
    process = Process(["-m", "datas3t", "up", "--data-dir", data_dir, "--addr", f"127.0.0.1:{port}"], log)
    try:
        wait_until(lambda: not process.running or "ready at" in process.log, 60, "readiness")
        assert process.running, process.log
        yield process
    finally:
        if process.running:
            assert process.terminate(signal.SIGTERM, 60) == 0, process.log


def kill_all(data_dir: Path, process: Process) -> None:
    for pid in [*(each.pid for each in living_in(data_dir)), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not living_in(data_dir), 30, "the end of all processes")


@pytest.mark.timeout(300)
def test_every_acknowledged_upload_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data_dir, (port,) = tmp_path / "data", free(1)
    url = f"http://127.0.0.1:{port}"
    with up(data_dir, port, tmp_path / "first.log") as process:
        writers = [Writer(url, name, tmp_path) for name in ("a", "bb", "ccc")]
        for writer in writers:
            writer.start()
        wait_until(lambda: all(len(writer.acknowledged) >= 5 for writer in writers), 120, "five uploads each")
        kill_all(data_dir, process)
    before = [len(writer.acknowledged) for writer in writers]
    with up(data_dir, port, tmp_path / "second.log"):
        pairs = list(zip(writers, before, strict=True))
        wait_until(lambda: all(len(each.acknowledged) > count for each, count in pairs), 120, "further uploads")
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(120)
        with Client(url) as client:
            for writer in writers:
                found = [each.content for each in client.datas3t(writer.name).scan()]
                assert found == [body for number in writer.acknowledged for body in bodies(writer.name, number)]
                assert writer.acknowledged == list(range(len(writer.acknowledged)))
