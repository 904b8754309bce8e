"""A client of the soak run: appends by a writer that keeps its id, and logs which key each datapoint got.

    python -m tests.faults.appender LOG DATAS3T SEED URL...
    python -m tests.faults.appender --finish LOG DATAS3T SEED URL...

It is killed at any time and started again with the same log. Its spools are beside the log, for each server its own.
With `--finish` it uploads what they hold, and ends. `check` compares what is stored with the log.
"""

import contextlib
import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from datas3t.client import Client, Datas3tError, Writer
from tests.faults.aggregator import adjacent_runs
from tests.faults.pusher import File, broken_files

ID, TABLE = "soak", "numbers"
_ARCHIVE_SIZE = 64 << 10


class Interruption(Exception):  # noqa: N818 - no error
    """What ends a `with` block of a writer."""


def content(number: int) -> bytes:
    """Return the content of the datapoint with this number."""
    source = random.Random(number)
    return b"%d " % number + source.randbytes(source.choice((0, 10, 700, 5_000, 40_000)))


def path(number: int) -> str:
    """Return its path."""
    return f"{number % 10}/{number}.bin"


class Appender:
    """Appends numbers, each of them once, by one writer after another on any of the servers."""

    def __init__(self, log: Path, name: str, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        begun = sum(1 for _ in lines(log))
        self._random = random.Random(seed * 1_000 + begun)
        self._clients = [Client(url, timeout=10) for url in urls]
        os.environ["XDG_STATE_HOME"] = str(log.parent / "state")

    def run(self) -> None:
        """Repeat until the process that started this one has ended."""
        parent = os.getppid()
        while os.getppid() == parent:
            client = self._random.choice(self._clients)
            step = self._random.choices((self._append, self._aggregate), (5, 1))[0]
            try:
                step(client)
            except Datas3tError as error:
                self._note("failed", f"{type(error).__name__}: {error}")

    def finish(self) -> None:
        """Upload what the spools hold."""
        for client in self._clients:
            client.writer(self._name, writer_id=ID).close()

    def _append(self, client: Client) -> None:
        with (
            contextlib.suppress(Interruption),
            client.writer(self._name, writer_id=ID, table=TABLE, archive_size=_ARCHIVE_SIZE) as out,
        ):
            for _ in range(self._random.randrange(1, 60)):
                self._append_one(out)
                if not self._random.randrange(20):
                    out.flush()
                    self._note("flushed")
            if not self._random.randrange(3):
                raise Interruption

    def _append_one(self, out: Writer) -> None:
        number = self._random.getrandbits(48)
        self._note("begun", str(number))
        key = out.append(content(number), path=path(number), number=number)
        self._note("appended", f"{number} {key}")

    def _aggregate(self, client: Client) -> None:
        runs = [run for run in adjacent_runs(client.list_dataranges(self._name)) if len(run) > 1]
        if runs:
            run = self._random.choice(runs)
            client.aggregate(self._name, run[0].first, run[min(len(run), 10) - 1].last)
            self._note("aggregated")

    def _note(self, what: str, about: str = "") -> None:
        with self._log.open("a") as out:
            out.write(f"{what} {about}\n")


def lines(log: Path) -> Iterator[list[str]]:
    """Yield the words of each line of a log, without one that was cut off by a kill."""
    if log.exists():
        yield from (line.split() for line in log.read_text().split("\n")[:-1])


def check(client: Client, name: str, logs: list[Path], fail: Callable[[str], Exception]) -> int:
    """Compare what is stored with the logs, and return how many datapoints there are.

    Raises:
        Exception: What `fail` makes of the guarantee that was broken.
    """
    begun = {int(words[1]) for log in logs for words in lines(log) if words[0] == "begun"}
    appended = {int(words[2]): int(words[1]) for log in logs for words in lines(log) if words[0] == "appended"}
    handle = client.datas3t(name)
    stored: dict[int, int] = {}
    files: dict[int, File] = {}
    for datapoint in handle.scan():
        number = stored[datapoint.key] = int(datapoint.content.split(b" ", 1)[0])
        if number not in begun or datapoint.content != content(number):
            raise fail(f"datapoint {datapoint.key} of {name} has a content that was not appended")
        files[datapoint.key] = File.of(path(number), datapoint.content)
    if missing := sorted(appended.items() - stored.items()):
        raise fail(f"{len(missing)} appended datapoints of {name} are missing, the first {missing[0]}")
    if len(set(stored.values())) != len(stored):
        raise fail(f"a datapoint of {name} was committed twice")
    if not stored:
        return 0
    rows = handle.table(TABLE).read()
    if dict(zip(rows.column("key").to_pylist(), rows.column("number").to_pylist(), strict=True)) != stored:
        raise fail(f"the table {TABLE!r} of {name} does not have the numbers of its datapoints")
    for broken in broken_files(handle, files):
        raise fail(broken)
    return len(stored)


def main(arguments: list[str]) -> None:
    """Run the command line."""
    finish = arguments[0] == "--finish"
    log, name, seed, *urls = itertools.islice(arguments, int(finish), None)
    appender = Appender(Path(log), name, int(seed), urls)
    appender.finish() if finish else appender.run()


if __name__ == "__main__":
    main(sys.argv[1:])
