"""The soak run: several clients, two servers, one database, one S3, all killed at random; then everything is checked.

    python -m tests.faults.soak --seconds 600 --seed 1        (make soak)

Owners (`owner.py`) upload, delete and read; a maintainer (`maintainer.py`) aggregates and imports. Every few seconds a
process dies by kill -9 and comes back. In the end: what was acknowledged is there, byte for byte; what was deleted is
gone; nothing overlaps; and when the reaper has been, the bucket holds what the database names, and no more.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from datas3t.client import Client
from datas3t.embedded.stack import Services, services
from tests.faults.owner import SPAN, content, entries
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "soak"
OWNERS = 3
URL_LIFETIME = "20s"  # what is abandoned, replaced or deleted twice has its end within the run
ROOT = Path(__file__).parents[2]
_BROKEN = {"wrong": "got other bytes than were uploaded for datapoint", "lost": "did not find datapoint"}


class BrokenGuaranteeError(AssertionError):
    """What must always hold did not."""


@dataclass
class Soak:
    """A run in `folder`."""

    folder: Path
    seed: int
    running: Services
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._sizes: dict[int, int] = {}  # of the clients' logs, when each was started last
        self.servers = [self._server(None) for _ in range(2)]
        for server in self.servers:
            server.wait_ready()
        self.urls = [server.url for server in self.servers]
        s3 = self.running.s3
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        self._post("/api/bucket", {"name": "local", "endpoint": s3.endpoint, "bucket": s3.bucket, **keys})
        self._post("/api/datas3t", {"name": NAME, "bucket": "local"})

    def run(self, seconds: float) -> None:
        """Everything at once, for so long. Whoever is killed has worked before, on a slow machine too."""
        clients = {number: self._client(number) for number in range(OWNERS + 1)}
        try:
            for number in clients:
                self._wait_for_work(number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(self.random.uniform(0.5, 4))
                self._kill_something(clients)
        finally:
            for client in clients.values():
                client.kill()
                client.wait()
        for number in range(len(self.servers)):
            self._wait_for_server(number)

    def close(self) -> None:
        for server in self.servers:
            server.kill()

    def _kill_something(self, clients: "dict[int, subprocess.Popen[bytes]]") -> None:
        victim = self.random.choice(("client", "client", "server", "server", "postgres", "seaweedfs"))
        self.counts[f"kill -9 of {victim}"] += 1
        number = self.random.randrange(OWNERS + 1 if victim == "client" else 2)
        if victim == "client":
            self._wait_for_work(number)
            clients[number].kill()
            clients[number].wait()
            clients[number] = self._client(number)
        elif victim == "server":
            port = self.servers[number].port
            self._wait_for_server(number)
            self.servers[number].kill()
            self.servers[number] = self._server(port)
        elif victim == "postgres":
            self.running.postgres.kill()
            self.running.postgres.start()
            self.running.postgres.wait_ready()
        else:
            self.running.seaweedfs.kill()
            self.running.seaweedfs.start()
            self.running.seaweedfs.wait_ready(self.running.s3.bucket)

    def _server(self, port: int | None) -> ServerProcess:
        folder = self.folder / "servers"
        folder.mkdir(exist_ok=True)
        key, options = self.running.encryption_key, ["--url-lifetime", URL_LIFETIME]
        return ServerProcess(folder, self.running.db_url, key, port=port, options=options)

    def _client(self, number: int) -> "subprocess.Popen[bytes]":
        """An owner, or the maintainer behind them. All clients are processes of their own: this one forks, which a
        process with calls under way may not."""
        folder = self._folder_of(number)
        folder.mkdir(exist_ok=True)
        self._sizes[number] = self._log_size(number)
        keys = [str(number * SPAN)] if number < OWNERS else []
        arguments = [str(folder / "log"), NAME, *keys, str(self.seed + number), *self.urls]
        with (folder / "output").open("ab") as output:
            command = [sys.executable, "-m", f"tests.faults.{_role(number)}", *arguments]
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def _wait_for_server(self, number: int) -> None:
        """Until it answers. One that was started while the database was away has ended, and is started again."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                return self.servers[number].wait_ready()
            if not self.servers[number].running:
                self.servers[number] = self._server(self.servers[number].port)
        raise AssertionError(f"server {number} does not start:\n{self.servers[number].log}")

    def _wait_for_work(self, number: int) -> None:
        """Until the client has written a line since it was started."""
        what = f"work of {_role(number)} {number}, whose output is in {self._folder_of(number)},"
        wait_until(lambda: self._log_size(number) > self._sizes[number], 90, what)

    def _folder_of(self, number: int) -> Path:
        return self.folder / f"{_role(number)}-{number}"

    def _log_size(self, number: int) -> int:
        log = self._folder_of(number) / "log"
        return log.stat().st_size if log.exists() else 0

    def _post(self, path: str, body: dict[str, str]) -> None:
        request = urllib.request.Request(self.urls[0] + path, data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass


def _role(number: int) -> str:
    return "owner" if number < OWNERS else "maintainer"


def check(soak: Soak) -> None:
    """Raises BrokenGuaranteeError where anything that was promised does not hold."""
    present, maybe = expected(soak.folder)
    with Client(soak.urls[0]) as client:
        handle = client.datas3t(NAME)
        keys = set(handle.keys)
        if missing := sorted(set(present) - keys):
            raise BrokenGuaranteeError(f"{len(missing)} acknowledged datapoints are gone, the first {missing[0]}")
        if extra := sorted(keys - set(present) - set(maybe)):
            (holder,) = (each for each in client.list_dataranges(NAME) if each.first <= extra[0] <= each.last)
            raise BrokenGuaranteeError(
                f"{len(extra)} datapoints are there that should not be, the first {extra[0]}, in {holder.object_key}"
            )
        for datapoint in handle.scan():
            generations = {present[datapoint.key]} if datapoint.key in present else maybe.get(datapoint.key, set())
            if not any(datapoint.content == content(datapoint.key, number) for number in generations):
                raise BrokenGuaranteeError(f"datapoint {datapoint.key} has other bytes than were uploaded")
            soak.counts["datapoints checked"] += 1
    _check_bucket(soak)


def expected(folder: Path) -> tuple[dict[int, int], dict[int, set[int]]]:
    """Keys that must be there, with their generation, and those that may be, with all that they may have: upload or
    deletion was not answered. Raises BrokenGuaranteeError for what a log says by itself."""
    present: dict[int, int] = {}
    maybe: dict[int, set[int]] = {}
    for log in folder.glob("owner-*/log"):
        begun: dict[int, set[int]] = {}
        for entry in entries(log):
            if entry["what"] in _BROKEN:
                raise BrokenGuaranteeError(
                    f"a reader {_BROKEN[entry['what']]} {entry['first']} {entry.get('error', '')}"
                )
            for key in range(entry["first"], entry["last"] + 1) if entry["what"] in ("begin", "done") else ():
                match entry["what"], entry["operation"]:
                    case "begin", "upload":
                        begun.setdefault(key, set()).add(entry["number"])
                        if key not in present:
                            maybe.setdefault(key, set()).add(entry["number"])
                    case "done", "upload":
                        if key in present:
                            raise BrokenGuaranteeError(f"two uploads of datapoint {key} were acknowledged")
                        begun.setdefault(key, set()).add(entry["number"])
                        present[key] = entry["number"]
                        maybe.pop(key, None)
                    case "begin", "delete":  # it may be done
                        present.pop(key, None)
                        maybe[key] = set(begun.get(key, ()))
                    case "done", "delete":  # nothing is left, also of an unsure upload
                        maybe.pop(key, None)
    return present, maybe


def _check_bucket(soak: Soak) -> None:
    """As if a day had passed: all that is due is due now. Then the bucket holds what rows name, and nothing else."""
    s3 = soak.running.seaweedfs.client()
    with psycopg.connect(soak.running.db_url, autocommit=True) as conn:
        conn.execute("UPDATE datarange_uploads SET expires_at = now() - interval '1 day' WHERE state = 'pending'")
        conn.execute("UPDATE aggregate_uploads SET expires_at = now() - interval '1 day' WHERE state = 'pending'")

        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")  # the dead hold no lease

        def settled() -> bool:
            conn.execute(
                "UPDATE keys_to_delete SET due_at = now(), due_since = now(), look_again_at = NULL"
                " WHERE due_at = due_since"  # it waits for its time: neither tried in vain nor in anybody's hands
            )
            pending = "SELECT (SELECT count(*) FROM keys_to_delete) + (SELECT count(*) FROM datarange_uploads"
            pending += " WHERE state = 'pending') + (SELECT count(*) FROM aggregate_uploads WHERE state = 'pending')"
            with Client(soak.urls[0]) as client:
                client.clear_datas3t("nothing-but-a-wake-up")
            return conn.execute(pending).fetchone() == (0,)

        with Client(soak.urls[0]) as client:
            client.add_datas3t("nothing-but-a-wake-up", bucket="local")
        wait_until(settled, 120, "the reaper's end")
        named = {
            key
            for row in conn.execute("SELECT data_object_key, index_object_key FROM dataranges").fetchall()
            for key in row
        }
    there = set(_listed(s3, soak.running.s3.bucket))
    if lost := sorted(named - there):
        raise BrokenGuaranteeError(f"{len(lost)} objects that rows name are gone, the first {lost[0]}")
    if orphans := sorted(there - named):
        raise BrokenGuaranteeError(
            f"{len(orphans)} objects are in the bucket that no row names, the first {orphans[0]}"
        )
    if uploads := s3.list_multipart_uploads(Bucket=soak.running.s3.bucket).get("Uploads"):
        key = str(uploads[0].get("Key"))
        raise BrokenGuaranteeError(
            f"{len(uploads)} multipart uploads are left, the first of {key}, {_states(soak, key)}"
        )
    soak.counts["dataranges at the end"] = len(named) // 2


def _states(soak: Soak, key: str) -> list[tuple[str, str]]:
    """What has become of the uploads and aggregates to an object, with their S3 ids."""
    with psycopg.connect(soak.running.db_url) as conn:
        return conn.execute(
            "SELECT state, s3_upload_id FROM datarange_uploads WHERE data_object_key = %(key)s UNION ALL"
            " SELECT state, s3_upload_id FROM aggregate_uploads WHERE data_object_key = %(key)s",
            {"key": key},
        ).fetchall()


def _listed(s3: "S3Client", bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="datas3t/"):
        yield from (each["Key"] for each in page.get("Contents", ()))


def soak(folder: Path, seconds: float, seed: int) -> Counter[str]:
    """A whole run; what happened how often. Raises BrokenGuaranteeError."""
    with services(folder / "data", durable=False) as running:
        run = Soak(folder, seed, running)
        try:
            run.run(seconds)
            check(run)
        finally:
            run.close()
        for log in folder.glob("owner-*/log"):
            run.counts.update(f"{each['operation']} {each['what']}" for each in entries(log))
        for log in folder.glob("maintainer-*/log"):
            run.counts.update(log.read_text().splitlines())
    return run.counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:.0f} seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix="datas3t-soak-", ignore_cleanup_errors=True) as folder:
        try:
            counts = soak(Path(folder), arguments.seconds, arguments.seed)
        except BrokenGuaranteeError as broken:
            print(f"BROKEN: {broken}")
            return 1
    for name, count in sorted(counts.items()):
        print(f"{count:8,}  {name}")
    print("all guarantees held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
