"""The soak run: clients, two servers, the database and S3 are killed at random, and then every guarantee is checked.

    python -m tests.faults.soak --seconds 600 --seed 1        (make soak)

With `--workers 2` each server has two processes, and its workers are killed as well.

Writers (`writer.py`) upload, delete and read; an aggregator (`aggregator.py`) aggregates and imports; a client
(`tables.py`) reserves keys, and adds and replaces table files; an appender (`appender.py`) appends with paths and
columns; pushers (`pusher.py`) push folders that change, and append, read and compact labels of one table. Every few
seconds a process is ended by kill -9 and started again. At the end, every acknowledged datapoint and table file must
have its content, every deleted one must be gone, no dataranges may overlap, no key may be reserved twice, what was
appended or pushed must be there once with its rows, the tables `files` must agree with the archives, every checksum
must be right, and after the reaper has run, the bucket must hold exactly the objects that the database names.
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
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from datas3t.client import Client
from datas3t.embedded.stack import Services, services
from tests.faults import appender, pusher, tables
from tests.faults.soak_bucket import BrokenGuaranteeError, check_bucket
from tests.faults.writer import SPAN, content, entries
from tests.support.stack import ServerProcess, wait_until

NAME = "soak"
APPENDED = "appended"  # the datas3t of the appender, whose keys are the server's
PUSHED = "pushed"  # that of the pushers
WRITERS = 3
ROLES = [*["writer"] * WRITERS, "aggregator", "tables", "appender", "pusher", "pusher"]
URL_LIFETIME = "20s"  # short, so that URLs expire, and what is kept until they have is deleted, within the run
ROOT = Path(__file__).parents[2]
_REPORTS = {"wrong": "read a wrong content for datapoint", "lost": "did not find datapoint"}


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
        for name in (NAME, APPENDED, PUSHED):
            self._post("/api/datas3t", {"name": name, "bucket": "local"})

    def run(self, seconds: float) -> None:
        """Run the clients, and kill processes, for this long. A client is only killed after it has done something."""
        clients = {number: self._client(number) for number in range(len(ROLES))}
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
        number = self.random.randrange(len(ROLES) if victim == "client" else 2)
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
        """Start the client with this number among the roles.

        Clients are separate processes, because this one forks to start others, which must not happen during gRPC calls.
        """
        folder = self._folder_of(number)
        folder.mkdir(exist_ok=True)
        self._log_sizes[number] = self._log_size(number)
        of_role = {
            "writer": [NAME, str(number * SPAN)],
            "aggregator": [NAME],
            "tables": [],
            "appender": [APPENDED],
            "pusher": [PUSHED],
        }[_role(number)]
        arguments = [str(folder / "log"), *of_role, str(self.seed + number), *self.urls]
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
    return ROLES[number]


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
        for log in soak.folder.glob("tables-*/log"):
            for broken in tables.broken(log, client):
                raise BrokenGuaranteeError(broken)
        _check_appended(soak, client)
        if logs := list(soak.folder.glob("pusher-*/log")):
            checked = pusher.check(client, PUSHED, logs, BrokenGuaranteeError)
            soak.counts["pushed datapoints checked"] = checked
    check_bucket(soak.running, soak.urls[0], soak.counts)


def _check_appended(soak: Soak, client: Client) -> None:
    """Upload what the appenders' spools hold, in a process of their own, and compare what is stored with their logs."""
    logs = list(soak.folder.glob("appender-*/log"))
    for log in logs:
        command = [sys.executable, "-m", "tests.faults.appender", "--finish", str(log), APPENDED, "0", *soak.urls]
        subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    if logs:
        soak.counts["appended datapoints checked"] = appender.check(client, APPENDED, logs, BrokenGuaranteeError)


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


def soak(folder: Path, seconds: float, seed: int, workers: int = 1) -> Counter[str]:
    """Do a whole run, and return how often what happened. Raises BrokenGuaranteeError."""
    with services(folder / "data", durable=False) as running:
        run = Soak(folder, seed, running, workers)
        try:
            run.run(seconds)
            check(run)
        finally:
            run.close()
        for log in (*folder.glob("writer-*/log"), *folder.glob("tables-*/log")):
            run.counts.update(f"{each['operation']} {each['what']}".strip() for each in entries(log))
        for log in folder.glob("aggregator-*/log"):
            run.counts.update(log.read_text().splitlines())
        for log in folder.glob("pusher-*/log"):
            noted = (f"pusher: {each.get('operation', 'file')} {each['what']}" for each in entries(log))
            run.counts.update(noted)
        for log in folder.glob("appender-*/log"):
            run.counts.update(f"append: {words[0]}" for words in appender.lines(log))
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
