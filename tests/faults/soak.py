"""The soak run: clients, two servers, the database and S3 are killed at random, and then every guarantee is checked.

    python -m tests.faults.soak --seconds 600 --seed 1        (make soak)

With `--workers 2` each server has two processes, and its workers are killed as well.

Writers (`writer.py`) upload, delete and read; an aggregator (`aggregator.py`) aggregates and imports. Every few seconds
a process is ended by kill -9 and started again. At the end, every acknowledged datapoint must have its content, every
deleted one must be gone, no dataranges may overlap, and after the reaper has run, the bucket must hold exactly the
objects that the database names.
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

import psutil
import psycopg

from datas3t.archive import checksums, index, names
from datas3t.client import Client
from datas3t.embedded.stack import Services, services
from tests.faults.writer import SPAN, content, entries
from tests.support.counters import wrong_counters
from tests.support.stack import ServerProcess, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "soak"
WRITERS = 3
URL_LIFETIME = "20s"  # short, so that URLs expire, and what is kept until they have is deleted, within the run
ROOT = Path(__file__).parents[2]
_REPORTS = {"wrong": "read a wrong content for datapoint", "lost": "did not find datapoint"}


class BrokenGuaranteeError(AssertionError):
    """A guarantee that must always hold was broken."""


@dataclass
class Soak:
    """A run in `folder`. `counts` says how often what happened."""

    folder: Path
    seed: int
    running: Services
    workers: int = 1
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._log_sizes: dict[int, int] = {}  # by client: the size of its log when it was last started
        self.servers = [self._server(None) for _ in range(2)]
        for server in self.servers:
            server.wait_ready()
        self.urls = [server.url for server in self.servers]
        s3 = self.running.s3
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        self._post("/api/bucket", {"name": "local", "endpoint": s3.endpoint, "bucket": s3.bucket, **keys})
        self._post("/api/datas3t", {"name": NAME, "bucket": "local"})

    def run(self, seconds: float) -> None:
        """Run the clients, and kill processes, for this long. A client is only killed after it has done something."""
        clients = {number: self._client(number) for number in range(WRITERS + 1)}
        try:
            for number in clients:
                self._wait_until_working(number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(self.random.uniform(0.5, 4))
                self._kill_something(clients)
        finally:
            for client in clients.values():
                client.kill()
                client.wait()
        for number in range(len(self.servers)):
            self._wait_until_ready(number)

    def close(self) -> None:
        """Kill the servers."""
        for server in self.servers:
            server.kill()

    def _kill_something(self, clients: "dict[int, subprocess.Popen[bytes]]") -> None:
        servers = ("server", "server", *(("worker", "worker") if self.workers > 1 else ()))
        victim = self.random.choice(("client", "client", *servers, "postgres", "seaweedfs"))
        self.counts[f"kill -9 of {victim}"] += 1
        number = self.random.randrange(WRITERS + 1 if victim == "client" else 2)
        if victim == "client":
            self._wait_until_working(number)
            clients[number].kill()
            clients[number].wait()
            clients[number] = self._client(number)
        elif victim == "server":
            port = self.servers[number].port
            self._wait_until_ready(number)
            self.servers[number].kill()
            self.servers[number] = self._server(port)
        elif victim == "worker":
            children = psutil.Process(self.servers[number].pid).children() if self.servers[number].running else []
            with contextlib.suppress(psutil.NoSuchProcess):
                self.random.choice(children).kill() if children else None
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
        key, options = self.running.encryption_key, ["--url-lifetime", URL_LIFETIME, "--workers", str(self.workers)]
        return ServerProcess(folder, self.running.db_url, key, port=port, options=options)

    def _client(self, number: int) -> "subprocess.Popen[bytes]":
        """Start a client: a writer, or the aggregator, which has the number after theirs.

        Clients are separate processes, because this one forks to start others, which must not happen during gRPC calls.
        """
        folder = self._folder_of(number)
        folder.mkdir(exist_ok=True)
        self._log_sizes[number] = self._log_size(number)
        keys = [str(number * SPAN)] if number < WRITERS else []
        arguments = [str(folder / "log"), NAME, *keys, str(self.seed + number), *self.urls]
        with (folder / "output").open("ab") as output:
            command = [sys.executable, "-m", f"tests.faults.{_role(number)}", *arguments]
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def _wait_until_ready(self, number: int) -> None:
        """Wait for a server. One that was started while the database was down has ended, and is started again."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                return self.servers[number].wait_ready()
            if not self.servers[number].running:
                self.servers[number] = self._server(self.servers[number].port)
        raise AssertionError(f"server {number} does not start:\n{self.servers[number].log}")

    def _wait_until_working(self, number: int) -> None:
        """Wait until the client has written a line to its log since it was started."""
        what = f"a log entry of {_role(number)} {number} (its output is in {self._folder_of(number)})"
        wait_until(lambda: self._log_size(number) > self._log_sizes[number], 90, what)

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
    return "writer" if number < WRITERS else "aggregator"


def check(soak: Soak) -> None:
    """Raise BrokenGuaranteeError if the datapoints or the bucket are not as they must be."""
    stored, unsure = expected(soak.folder)
    with Client(soak.urls[0]) as client:
        handle = client.datas3t(NAME)
        keys = set(handle.keys)
        if missing := sorted(set(stored) - keys):
            raise BrokenGuaranteeError(f"{len(missing)} acknowledged datapoints are missing, the first {missing[0]}")
        if extra := sorted(keys - set(stored) - set(unsure)):
            (datarange,) = (each for each in client.list_dataranges(NAME) if each.first <= extra[0] <= each.last)
            raise BrokenGuaranteeError(
                f"{len(extra)} datapoints should not exist, the first {extra[0]}, in {datarange.object_key}"
            )

        # Compare the content of every datapoint.
        for datapoint in handle.scan():
            generations = {stored[datapoint.key]} if datapoint.key in stored else unsure.get(datapoint.key, set())
            if not any(datapoint.content == content(datapoint.key, number) for number in generations):
                raise BrokenGuaranteeError(f"datapoint {datapoint.key} has a content that was not uploaded")
            soak.counts["datapoints checked"] += 1
    _check_bucket(soak)


def expected(folder: Path) -> tuple[dict[int, int], dict[int, set[int]]]:
    """Return what the logs of the writers say about the keys.

    Returns:
        The keys that must exist, with their generation; and the keys that may exist, because an upload or deletion was
        not acknowledged, with the generations that they may have.

    Raises:
        BrokenGuaranteeError: A log shows by itself that a guarantee was broken.
    """
    stored: dict[int, int] = {}
    unsure: dict[int, set[int]] = {}
    for log in folder.glob("writer-*/log"):
        begun: dict[int, set[int]] = {}
        for entry in entries(log):
            if entry["what"] in _REPORTS:
                raise BrokenGuaranteeError(
                    f"a reader {_REPORTS[entry['what']]} {entry['first']} {entry.get('error', '')}"
                )
            for key in range(entry["first"], entry["last"] + 1) if entry["what"] in ("begin", "done") else ():
                match entry["what"], entry["operation"]:
                    case "begin", "upload":
                        begun.setdefault(key, set()).add(entry["number"])
                        if key not in stored:
                            unsure.setdefault(key, set()).add(entry["number"])
                    case "done", "upload":
                        if key in stored:
                            raise BrokenGuaranteeError(f"two uploads of datapoint {key} were acknowledged")
                        begun.setdefault(key, set()).add(entry["number"])
                        stored[key] = entry["number"]
                        unsure.pop(key, None)
                    case "begin", "delete":
                        stored.pop(key, None)
                        unsure[key] = set(begun.get(key, ()))
                    case "done", "delete":  # which also ends an upload that was not acknowledged
                        unsure.pop(key, None)
    return stored, unsure


def _check_bucket(soak: Soak) -> None:
    """Make everything due that would be due in a day, let the reaper run, and compare the bucket with the database."""
    s3 = soak.running.seaweedfs.client()

    # Let the reaper finish. Clearing a datas3t, also an empty one, wakes it up.
    with psycopg.connect(soak.running.db_url, autocommit=True) as conn:
        conn.execute("UPDATE datarange_uploads SET expires_at = now() - interval '1 day' WHERE state = 'pending'")
        conn.execute("UPDATE aggregate_uploads SET expires_at = now() - interval '1 day' WHERE state = 'pending'")
        conn.execute("UPDATE checksums_uploads SET expires_at = now() - interval '1 day' WHERE state = 'pending'")

        # This includes keys that were claimed by a server that is dead now.
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")

        def settled() -> bool:
            conn.execute(
                "UPDATE keys_to_delete SET due_at = now(), due_since = now(), look_again_at = NULL"
                " WHERE due_at = due_since"  # that is, no server has claimed the key, and no deletion has failed
            )
            pending = "SELECT (SELECT count(*) FROM keys_to_delete) + (SELECT count(*) FROM datarange_uploads"
            pending += " WHERE state = 'pending') + (SELECT count(*) FROM aggregate_uploads WHERE state = 'pending')"
            pending += " + (SELECT count(*) FROM checksums_uploads WHERE state = 'pending')"
            pending += " + (SELECT count(*) FROM cleared_catalogues)"
            with Client(soak.urls[0]) as client:
                client.clear_datas3t("only-wakes-the-reaper")
            return conn.execute(pending).fetchone() == (0,)

        with Client(soak.urls[0]) as client:
            client.add_datas3t("only-wakes-the-reaper", bucket="local")
        wait_until(settled, 120, "the end of the reaper's work")
        if wrong := wrong_counters(conn):
            raise BrokenGuaranteeError(f"the numbers in the row of a datas3t are not those of its dataranges: {wrong}")
        rows = conn.execute("SELECT data_object_key, index_object_key, checksums_etag FROM dataranges").fetchall()
    with_checksums = [data_key for data_key, _, etag in rows if etag is not None]
    named = {key for data_key, index_key, _ in rows for key in (data_key, index_key)}
    named |= set(map(names.checksums_key, with_checksums))

    # The bucket must hold the objects of the dataranges, no others, and no multipart upload.
    present = set(_object_keys(s3, soak.running.s3.bucket))
    if lost := sorted(named - present):
        raise BrokenGuaranteeError(f"{len(lost)} objects that the database names are missing, the first {lost[0]}")
    if orphans := sorted(present - named):
        raise BrokenGuaranteeError(
            f"{len(orphans)} objects are in the bucket but not in the database, the first {orphans[0]}"
        )
    if uploads := s3.list_multipart_uploads(Bucket=soak.running.s3.bucket).get("Uploads"):
        key = str(uploads[0].get("Key"))
        raise BrokenGuaranteeError(
            f"{len(uploads)} multipart uploads are left, the first of {key}: {_intents_for(soak, key)}"
        )
    soak.counts["dataranges at the end"] = len(rows)
    soak.counts["dataranges with checksums at the end"] = len(with_checksums)
    for data_key in with_checksums:
        _check_checksums(s3, soak.running.s3.bucket, data_key)


def _check_checksums(s3: "S3Client", bucket: str, data_key: str) -> None:
    """Compare the checksums of an archive, which are in the bucket, with its contents."""
    body, raw_index, stored = (
        s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in (data_key, names.index_key(data_key), names.checksums_key(data_key))
    )
    contents = [entry.content for entry in index.decode(raw_index)]
    if checksums.of_contents(body, [each.start for each in contents], [each.stop for each in contents]) != stored:
        raise BrokenGuaranteeError(f"the checksums of {data_key} are not those of its contents")


def _intents_for(soak: Soak, key: str) -> list[tuple[str, str]]:
    """Return state and S3 upload id of each upload and aggregate whose data object has this key."""
    with psycopg.connect(soak.running.db_url) as conn:
        return conn.execute(
            "SELECT state, s3_upload_id FROM datarange_uploads WHERE data_object_key = %(key)s UNION ALL"
            " SELECT state, s3_upload_id FROM aggregate_uploads WHERE data_object_key = %(key)s",
            {"key": key},
        ).fetchall()


def _object_keys(s3: "S3Client", bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="datas3t/"):
        yield from (each["Key"] for each in page.get("Contents", ()))


def soak(folder: Path, seconds: float, seed: int, workers: int = 1) -> Counter[str]:
    """Do a whole run, and return how often what happened. Raises BrokenGuaranteeError."""
    with services(folder / "data", durable=False) as running:
        run = Soak(folder, seed, running, workers)
        try:
            run.run(seconds)
            check(run)
        finally:
            run.close()
        for log in folder.glob("writer-*/log"):
            run.counts.update(f"{each['operation']} {each['what']}" for each in entries(log))
        for log in folder.glob("aggregator-*/log"):
            run.counts.update(log.read_text().splitlines())
    return run.counts


def main() -> int:
    """Run the command line, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:.0f} seconds, {arguments.workers} workers", flush=True)
    with tempfile.TemporaryDirectory(prefix="datas3t-soak-", ignore_cleanup_errors=True) as folder:
        try:
            counts = soak(Path(folder), arguments.seconds, arguments.seed, arguments.workers)
        except BrokenGuaranteeError as broken:
            print(f"BROKEN: {broken}")
            return 1
    for name, count in sorted(counts.items()):
        print(f"{count:8,}  {name}")
    print("all guarantees held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
