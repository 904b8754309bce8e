"""A client of the soak run: owns a span of keys, and writes to its log what it begins and what was acknowledged.

    python -m tests.faults.owner LOG DATAS3T FIRST SEED URL...

It is killed at any moment and started again on the same log, which is all that it knows. What a key holds follows from
the key and from the number of the operation that uploaded it, so that anyone can say what must be there.
"""

import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError

from datas3t import v1
from datas3t.client import (
    ArchiveError,
    Client,
    Datarange,
    Datas3tError,
    ObjectChanged,
    Segment,
)
from tests.faults.ways import WAYS
from tests.support.tars import archive
from tests.support.uploads import get, put

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
        self._signed: deque[tuple[int, list[Segment]]] = deque(maxlen=5)  # which have not ended yet
        self._steps: list[tuple[Callable[[Client], None], int]] = [
            (self._upload, 8),
            (self._race, 3),
            (self._abandon, 1),
            (self._delete, 2),
            (self._merge_under_deletion, 2),
            (self._read, 8),
            (self._sign, 2),
            (self._follow, 2),
        ]

    def run(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # it ends with whoever started it
            step = self._random.choices(*zip(*self._steps, strict=True))[0]
            try:
                step(self._random.choice(self._clients))
            except Datas3tError as error:
                self._note("failed", "step", 0, 0, self._operations, error=f"{type(error).__name__}: {error}")

    def _upload(self, client: Client) -> None:
        count = self._random.choice((1, 3, 20, 60))
        first, last = self._next, self._next + count - 1
        generation = self._begin("upload", first, last)
        self._next = last + 1
        self._put(client, first, last, generation)

    def _put(self, client: Client, first: int, last: int, generation: int) -> None:
        path = self._folder / f"{first}.tar"
        path.write_bytes(archive(first, (content(key, generation) for key in range(first, last + 1))))
        client.upload_tar(self._name, path)
        self._note("done", "upload", first, last, generation)

    def _race(self, _: Client) -> None:
        """Two uploads that overlap, at the same time: at most one is acknowledged, which the log tells."""
        first = self._next
        spans = [(first, first + 5), (first + 3, first + 8)]
        self._next = first + 9
        begun = [(*span, self._begin("upload", *span)) for span in spans]

        def compete(client: Client, first: int, last: int, generation: int) -> None:
            with contextlib.suppress(Datas3tError):
                self._put(client, first, last, generation)

        clients = self._random.choices(self._clients, k=len(begun))
        _together(*(partial(compete, client, *each) for client, each in zip(clients, begun, strict=True)))

    def _abandon(self, client: Client) -> None:
        """An upload that is cancelled, and one of whose PUTs comes late: nothing of it may stay, or come to light."""
        first, body = self._next, archive(self._next, [b"late"])
        uploads = client.connection.datarange
        started = uploads.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=self._name, first_datapoint_index=first, number_of_datapoints=1, data_size=len(body)
            )
        )
        uploads.CancelUpload(v1.CancelUploadRequest(datarange_upload_id=started.datarange_upload_id))
        with contextlib.suppress(OSError):
            put(started.presigned_data_put_url, body)

    def _delete(self, client: Client) -> None:
        mine = self._dataranges(client)
        if len(mine) < 5:
            return
        chosen = self._random.choice(mine)
        generation = self._begin("delete", chosen.first, chosen.last)
        client.delete_dataranges(self._name, chosen.first, chosen.last)
        self._note("done", "delete", chosen.first, chosen.last, generation)

    def _merge_under_deletion(self, client: Client) -> None:
        """Neighbours become one while one of them is deleted: what was acknowledged as deleted does not come back."""
        mine = self._dataranges(client)
        if len(mine) < 5:
            return
        at, pause = self._random.randrange(len(mine) - 1), self._random.uniform(0, 0.25)
        first, second, merging = mine[at], mine[at + 1], self._random.choice(self._clients)
        if first.last + 1 != second.first:
            return
        generation = self._begin("delete", second.first, second.last)

        def merge() -> None:
            with contextlib.suppress(Datas3tError):
                merging.aggregate(self._name, first.first, second.last)

        def delete() -> None:
            time.sleep(pause)
            with contextlib.suppress(Datas3tError):
                client.delete_dataranges(self._name, second.first, second.last)
                self._note("done", "delete", second.first, second.last, generation)

        _together(merge, delete)

    def _dataranges(self, client: Client) -> list[Datarange]:
        """Those of its span, by first key."""
        return [each for each in client.list_dataranges(self._name) if self._first <= each.first < self._first + SPAN]

    def _read(self, client: Client) -> None:
        """By get, get_many or scan: whatever of its own it reads must be what it has put there, and what it knows to be
        there must be found."""
        made, there = self._knowledge()
        if not there:
            return
        name, way = self._random.choice(list(WAYS.items()))
        some = sorted(self._random.sample(there, min(20, len(there))))
        try:
            found = way(client.datas3t(self._name), some)
        except (ObjectChanged, ArchiveError) as error:
            self._note("wrong", name, some[0], some[-1], 0, error=str(error))
            return
        self._note("read", name, some[0], some[-1], len(found))
        for key, body in found.items():
            if not any(body == content(key, number) for number in made.get(key, ())):
                self._note("wrong", name, key, key, 0)
        for key in some:
            if key not in found:
                self._note("lost", name, key, key, 0)

    def _sign(self, client: Client) -> None:
        """Keeps URLs of what is there, to follow them later."""
        _, there = self._knowledge()
        if there:
            key = self._random.choice(there)
            self._signed.append((key, client.presign_download(self._name, key, key)))

    def _follow(self, _: Client) -> None:
        """URLs that were handed out work, whatever was merged since, until their datapoint is deleted."""
        if not self._signed:
            return
        key, (segment,) = self._random.choice(self._signed)
        made, there = self._knowledge()
        if key not in there:
            return
        try:
            entry = get(segment.url, segment.start, segment.stop)
        except HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                self._note("lost", "follow", key, key, 0, error=f"by a URL that was signed for it: {error}")
        except OSError:
            pass  # S3 is away
        else:
            self._note("read", "follow", key, key, 1)
            if not any(content(key, number) in entry for number in made[key]):
                self._note("wrong", "follow", key, key, 0)

    def _knowledge(self) -> tuple[dict[int, set[int]], list[int]]:
        """Of all keys that it has begun to upload the generations; and those that must be there."""
        made: dict[int, set[int]] = {}
        there: set[int] = set()
        for entry in entries(self._log):
            if _is(entry, "begin", "upload"):
                for key in _keys(entry):
                    made.setdefault(key, set()).add(entry["number"])
            elif _is(entry, "done", "upload"):
                there.update(_keys(entry))
            elif _is(entry, "begin", "delete"):
                there.difference_update(_keys(entry))
        return made, sorted(there)

    def _begin(self, operation: str, first: int, last: int) -> int:
        """The operation's number."""
        self._operations += 1
        self._note("begin", operation, first, last, self._operations)
        return self._operations

    def _note(self, what: str, operation: str, first: int, last: int, number: int, **more: str) -> None:
        entry = {"what": what, "operation": operation, "first": first, "last": last, "number": number, **more}
        with self._log.open("a") as out:
            out.write(json.dumps(entry) + "\n")


def _together(*works: Callable[[], None]) -> None:
    """Does them at the same time, each in a thread."""
    threads = [Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _is(entry: dict[str, Any], what: str, operation: str) -> bool:
    return bool((entry["what"], entry["operation"]) == (what, operation))


def _keys(entry: dict[str, Any]) -> range:
    return range(entry["first"], entry["last"] + 1)


if __name__ == "__main__":
    log, name, first, seed, *urls = sys.argv[1:]
    Owner(Path(log), name, int(first), int(seed), urls).run()
