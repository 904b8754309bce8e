"""Writers and the server are killed while they reserve keys: no key is given twice, and none is lost."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.client import Client
from tests.faults.writer import entries
from tests.support.stack import ServerProcess, wait_until
from tests.support.uploads import add_bucket, open_resources

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ROOT = Path(__file__).parents[2]
WRITERS, REQUESTS = 4, 30


def test_no_key_is_reserved_twice_or_lost_whatever_is_killed(
    services: "Services", database: str, bucket: str, tmp_path: Path
) -> None:
    with open_resources(database, services.encryption_key, tmp_path / "cache") as resources:
        add_bucket(resources, services.s3, bucket)
    logs = [tmp_path / f"writer-{number}" for number in range(WRITERS)]

    def start(log: Path, url: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.faults.reserver", str(log), "images", str(REQUESTS), url]
        return subprocess.Popen(command, cwd=ROOT)

    def answers(log: Path) -> int:
        return sum("first" in each for each in entries(log))

    server = ServerProcess(tmp_path, database, services.encryption_key)
    writers: list[subprocess.Popen[bytes]] = []
    try:
        server.wait_ready()
        with Client(server.url) as client:
            client.add_datas3t("images", bucket="local")
        writers = [start(log, server.url) for log in logs]
        for number in range(2):
            wait_until(lambda: answers(logs[number]) > 5, 60, "a writer at work")  # noqa: B023 - it is called here
            writers[number].kill()
            writers[number].wait()
            writers[number] = start(logs[number], server.url)
        server.kill()
        server = ServerProcess(tmp_path, database, services.encryption_key, port=server.port)
        server.wait_ready()
        assert [writer.wait(90) for writer in writers] == [0] * WRITERS
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
        server.kill()
    found = [each for log in logs for each in entries(log) if "first" in each]
    assert len({each["request"] for each in found}) == len(found) == WRITERS * REQUESTS
    spans = sorted((each["first"], each["last"]) for each in found)
    assert spans[0][0] == 1
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(spans))
