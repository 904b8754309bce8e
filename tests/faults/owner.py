"""A client of the soak run: owns a span of keys, and writes to its log what it begins and what was acknowledged.

    python -m tests.faults.owner LOG DATAS3T FIRST SEED URL...

It is killed at any moment and started again on the same log, which is all that it knows. What a key holds follows from
the key and from the number of the operation that uploaded it, so that anyone can say what must be there.
"""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datas3t.client import Client, Datas3tError, NotFound
from tests.support.tars import archive

SPAN = 1_000_000  # keys of an owner


def content(key: int, generation: int) -> bytes:
    """What the upload of that generation put under the key."""
    source = random.Random(key * 1_000_003 + generation)
    return source.randbytes(source.choice((0, 10, 700, 5_000, 40_000)))


def entries(log: Path) -> Iterator[dict[str, Any]]:
    """What the log says; a last line that a kill has cut does not count."""
    if log.exists():
        for line in log.read_text().split("\n")[:-1]:
            yield json.loads(line)


class Owner:
    def __init__(self, log: Path, name: str, first: int, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        self._first = first
        before = list(entries(log))
        self._operations: int = sum(entry["what"] == "begin" for entry in before)
        self._next = max([first, *(entry["last"] + 1 for entry in before if entry["operation"] == "upload")])
        self._random = random.Random(seed * 1000 + self._operations)
        self._clients = [Client(url, timeout=10) for url in urls]
        self._folder = Path(tempfile.mkdtemp(dir=log.parent))

    def run(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # it ends with whoever started it
            step = self._random.choices((self._upload, self._delete, self._read), (5, 1, 4))[0]
            try:
                step(self._random.choice(self._clients))
            except Datas3tError as error:
                self._note("failed", "step", 0, 0, self._operations, error=f"{type(error).__name__}: {error}")

    def _upload(self, client: Client) -> None:
        count = self._random.choice((1, 3, 20, 60))
        first, last = self._next, self._next + count - 1
        generation = self._begin("upload", first, last)
        self._next = last + 1
        path = self._folder / f"{first}.tar"
        path.write_bytes(archive(first, (content(key, generation) for key in range(first, last + 1))))
        client.upload_tar(self._name, path)
        self._note("done", "upload", first, last, generation)

    def _delete(self, client: Client) -> None:
        mine = [each for each in client.list_dataranges(self._name) if self._first <= each.first < self._first + SPAN]
        if len(mine) < 5:
            return
        chosen = self._random.choice(mine)
        generation = self._begin("delete", chosen.first, chosen.last)
        client.delete_dataranges(self._name, chosen.first, chosen.last)
        self._note("done", "delete", chosen.first, chosen.last, generation)

    def _read(self, client: Client) -> None:
        """Whatever of its own it reads must be what it has put there; that it is still there, the checker looks at."""
        handle = client.datas3t(self._name)
        known = {
            key: entry["number"] for entry in entries(self._log) if _is(entry, "done", "upload") for key in _keys(entry)
        }
        if not known:
            return
        some = self._random.sample(sorted(known), min(20, len(known)))
        for key in some:
            try:
                found = handle.get(key)
            except NotFound:
                continue
            if found != content(key, known[key]):
                self._note("wrong", "read", key, key, known[key])

    def _begin(self, operation: str, first: int, last: int) -> int:
        """The operation's number."""
        self._operations += 1
        self._note("begin", operation, first, last, self._operations)
        return self._operations

    def _note(self, what: str, operation: str, first: int, last: int, number: int, **more: str) -> None:
        entry = {"what": what, "operation": operation, "first": first, "last": last, "number": number, **more}
        with self._log.open("a") as out:
            out.write(json.dumps(entry) + "\n")


def _is(entry: dict[str, Any], what: str, operation: str) -> bool:
    return bool((entry["what"], entry["operation"]) == (what, operation))


def _keys(entry: dict[str, Any]) -> range:
    return range(entry["first"], entry["last"] + 1)


if __name__ == "__main__":
    log, name, first, seed, *urls = sys.argv[1:]
    Owner(Path(log), name, int(first), int(seed), urls).run()
