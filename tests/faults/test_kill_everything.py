"""kill -9 of all that `datas3t up` runs, under writers, then `up` again: what was acknowledged is there."""

import contextlib
import itertools
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from datas3t.client import Client, Datas3tError
from tests.support.stack import Process, living_in, wait_until
from tests.support.tars import archive, contents

COUNT = 20  # datapoints of an archive


class Writer(threading.Thread):
    """Uploads archive after archive to a datas3t of its own, and keeps which were acknowledged."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.acknowledged: list[int] = []
        self.failed = False
        self._url = url
        self._folder = folder

    def run(self) -> None:
        with Client(self._url, timeout=5) as client:
            client.add_datas3t(self.name, bucket="local")
            for number in itertools.count():
                path = self._folder / f"{self.name}-{number}.tar"
                path.write_bytes(archive(1 + number * COUNT, bodies(self.name, number)))
                try:
                    client.upload_tar(self.name, path, max_retries=0)
                except Datas3tError:
                    self.failed = True
                    return
                self.acknowledged.append(number)


def bodies(name: str, number: int) -> list[bytes]:
    return contents(number * 1000 + len(name), COUNT, 30_000)


@contextlib.contextmanager
def up(data_dir: Path, log: Path):  # type: ignore[no-untyped-def]
    process = Process(["-m", "datas3t", "up", "--data-dir", data_dir, "--addr", "127.0.0.1:0"], log)
    try:
        wait_until(lambda: not process.running or "ready at" in process.log, 60, "readiness")
        assert process.running, process.log
        yield process, json.loads((data_dir / "stack.json").read_text())["server_url"]
    finally:
        if process.running:
            assert process.terminate(signal.SIGTERM, 60) == 0, process.log


@pytest.mark.timeout(300)
def test_every_acknowledged_upload_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data_dir = tmp_path / "data"
    with up(data_dir, tmp_path / "first.log") as (process, url):
        writers = [Writer(url, name, tmp_path) for name in ("a", "bb", "ccc")]
        for writer in writers:
            writer.start()
        wait_until(lambda: all(len(writer.acknowledged) >= 5 for writer in writers), 120, "five uploads each")
        for victim in [*living_in(data_dir), process]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
        process.wait()
        for writer in writers:
            writer.join(120)
        assert all(writer.failed for writer in writers)
    wait_until(lambda: not living_in(data_dir), 30, "the end of all processes")
    with up(data_dir, tmp_path / "second.log") as (_, url), Client(url) as client:
        for writer in writers:
            there = {each.first: each for each in client.list_dataranges(writer.name)}
            for number in writer.acknowledged:
                assert there[1 + number * COUNT].datapoints == COUNT
                span = (1 + number * COUNT, (1 + number) * COUNT)
                found = [each.content for each in client.datas3t(writer.name).scan(*span)]
                assert found == bodies(writer.name, number)
            assert len(there) in (len(writer.acknowledged), len(writer.acknowledged) + 1), "at most one answer was lost"
