"""A client of the soak run: uploads, deletes and reads within its own keys, and logs what was acknowledged.

    python -m tests.faults.writer LOG DATAS3T FIRST SEED URL...

It is killed at any time and started again with the same log, from which it knows what it did before. The content of a
datapoint follows from its key and from the number of the operation that uploaded it (its generation), so that anyone
who has the log can compute what must be stored.
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
from datas3t.archive import checksums, tar
from datas3t.client import (
    ArchiveError,
    Client,
    Datarange,
    Datas3tError,
    ObjectChanged,
    Segment,
)
from tests.faults.read_methods import READ_METHODS
from tests.support.tars import archive
from tests.support.uploads import get, put

SPAN = 1_000_000  # keys of a writer


def content(key: int, generation: int) -> bytes:
    """Return the content that the upload of this generation stores under the key."""
    source = random.Random(key * 1_000_003 + generation)
    return source.randbytes(source.choice((0, 10, 700, 5_000, 40_000)))


def entries(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log, without a last line that was cut off by a kill."""
    if log.exists():
        for line in log.read_text().split("\n")[:-1]:
            yield json.loads(line)


class Writer:
    """Does one random step after another, on any of the servers. The keys from `first` on are its own."""

    def __init__(self, log: Path, name: str, first: int, seed: int, urls: list[str]) -> None:
        self._log = log
        self._name = name
        self._first = first
        earlier = list(entries(log))
        self._operations: int = sum(entry["what"] == "begin" for entry in earlier)
        self._next = max([first, *(entry["last"] + 1 for entry in earlier if entry["operation"] == "upload")])
        self._random = random.Random(seed * 1000 + self._operations)
        self._clients = [Client(url, timeout=10) for url in urls]
        self._folder = Path(tempfile.mkdtemp(dir=log.parent))
        self._presigned: deque[tuple[int, list[Segment]]] = deque(maxlen=5)  # few, so that none has expired when used
        self._steps: list[tuple[Callable[[Client], None], int]] = [  # with their weights
            (self._upload, 8),
            (self._upload_overlapping, 3),
            (self._cancel_upload, 1),
            (self._add_checksums, 2),
            (self._delete, 2),
            (self._aggregate_during_deletion, 2),
            (self._read, 8),
            (self._presign, 2),
            (self._read_presigned, 2),
        ]

    def run(self) -> None:
        """Repeat until the process that started this one has ended."""
        parent = os.getppid()
        while os.getppid() == parent:
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
        self._upload_tar(client, first, last, generation)

    def _upload_tar(self, client: Client, first: int, last: int, generation: int) -> None:
        path = self._folder / f"{first}.tar"
        path.write_bytes(archive(first, (content(key, generation) for key in range(first, last + 1))))
        client.upload_tar(self._name, path)
        self._note("done", "upload", first, last, generation)

    def _upload_overlapping(self, _: Client) -> None:
        """Upload two archives with common keys concurrently. At most one may be acknowledged; the log shows which."""
        first = self._next
        spans = [(first, first + 5), (first + 3, first + 8)]
        self._next = first + 9
        uploads = [(*span, self._begin("upload", *span)) for span in spans]

        def try_upload(client: Client, first: int, last: int, generation: int) -> None:
            with contextlib.suppress(Datas3tError):
                self._upload_tar(client, first, last, generation)

        clients = self._random.choices(self._clients, k=len(uploads))
        _concurrently(*(partial(try_upload, client, *each) for client, each in zip(clients, uploads, strict=True)))

    def _cancel_upload(self, client: Client) -> None:
        """Cancel an upload, and PUT its archive after that: the object must be deleted, and never become visible."""
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

    def _add_checksums(self, client: Client) -> None:
        """Upload as an older client does, without checksums, and add them after that; some are wrong."""
        count = self._random.choice((1, 3, 20))
        first, last = self._next, self._next + count - 1
        generation = self._begin("upload", first, last)
        self._next = last + 1
        contents = [content(key, generation) for key in range(first, last + 1)]
        body, calls = archive(first, contents), client.connection.datarange
        started = calls.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=self._name, first_datapoint_index=first, number_of_datapoints=count, data_size=len(body)
            )
        )
        with contextlib.suppress(OSError):
            put(started.presigned_index_put_url, tar.scan(lambda start, stop: body[start:stop], len(body)).index)
            put(started.presigned_data_put_url, body)
        calls.CompleteUpload(v1.CompleteUploadRequest(datarange_upload_id=started.datarange_upload_id))
        self._note("done", "upload", first, last, generation)
        for each in client.list_dataranges(self._name):
            if (each.first, each.last) == (first, last):
                request = v1.StartChecksumsRequest(datas3t_name=self._name, datarange_id=each.id)
                added = calls.StartChecksums(request)
                crcs = [checksums.crc(each) ^ (self._random.random() < 0.01) for each in contents]
                with contextlib.suppress(OSError):
                    put(added.presigned_checksums_put_url, checksums.encode(crcs))
                calls.CompleteChecksums(v1.CompleteChecksumsRequest(checksums_id=added.checksums_id))

    def _delete(self, client: Client) -> None:
        dataranges = self._dataranges(client)
        if len(dataranges) < 5:
            return
        chosen = self._random.choice(dataranges)
        generation = self._begin("delete", chosen.first, chosen.last)
        client.delete_dataranges(self._name, chosen.first, chosen.last)
        self._note("done", "delete", chosen.first, chosen.last, generation)

    def _aggregate_during_deletion(self, client: Client) -> None:
        """Aggregate two dataranges while one of them is deleted: once acknowledged, the deletion must stay."""
        # Choose two neighbours without a gap between them.
        dataranges = self._dataranges(client)
        if len(dataranges) < 5:
            return
        at, pause = self._random.randrange(len(dataranges) - 1), self._random.uniform(0, 0.25)
        first, second, other_client = dataranges[at], dataranges[at + 1], self._random.choice(self._clients)
        if first.last + 1 != second.first:
            return
        generation = self._begin("delete", second.first, second.last)

        def aggregate() -> None:
            with contextlib.suppress(Datas3tError):
                other_client.aggregate(self._name, first.first, second.last)

        def delete() -> None:
            time.sleep(pause)
            with contextlib.suppress(Datas3tError):
                client.delete_dataranges(self._name, second.first, second.last)
                self._note("done", "delete", second.first, second.last, generation)

        _concurrently(aggregate, delete)

    def _dataranges(self, client: Client) -> list[Datarange]:
        """Return the dataranges within the writer's own keys, by first key."""
        return [each for each in client.list_dataranges(self._name) if self._first <= each.first < self._first + SPAN]

    def _read(self, client: Client) -> None:
        """Read some of the writer's own keys, and log those that are lost or have a content that was never uploaded."""
        generations, stored = self._known_keys()
        if not stored:
            return
        method, read = self._random.choice(list(READ_METHODS.items()))
        some = sorted(self._random.sample(stored, min(20, len(stored))))
        try:
            contents = read(client.datas3t(self._name), some)
        except (ObjectChanged, ArchiveError) as error:
            self._note("wrong", method, some[0], some[-1], 0, error=str(error))
            return
        self._note("read", method, some[0], some[-1], len(contents))
        for key, body in contents.items():
            if not any(body == content(key, number) for number in generations.get(key, ())):
                self._note("wrong", method, key, key, 0)
        for key in some:
            if key not in contents:
                self._note("lost", method, key, key, 0)

    def _presign(self, client: Client) -> None:
        """Get URLs of a datapoint, to be used later."""
        _, stored = self._known_keys()
        if stored:
            key = self._random.choice(stored)
            self._presigned.append((key, client.presign_download(self._name, key, key)))

    def _read_presigned(self, _: Client) -> None:
        """Use an earlier URL. It must work until the datapoint is deleted, also after it was aggregated."""
        if not self._presigned:
            return
        key, (segment,) = self._random.choice(self._presigned)
        generations, stored = self._known_keys()
        if key not in stored:
            return
        try:
            entry = get(segment.url, segment.start, segment.stop)
        except HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                self._note("lost", "presigned", key, key, 0, error=f"by a URL that was signed for it: {error}")
        except OSError:
            pass  # S3 is down
        else:
            self._note("read", "presigned", key, key, 1)
            if not any(content(key, number) in entry for number in generations[key]):
                self._note("wrong", "presigned", key, key, 0)

    def _known_keys(self) -> tuple[dict[int, set[int]], list[int]]:
        """Return the generations of all keys whose upload was begun, and the keys that must be stored."""
        generations: dict[int, set[int]] = {}
        stored: set[int] = set()
        for entry in entries(self._log):
            if _is(entry, "begin", "upload"):
                for key in _keys(entry):
                    generations.setdefault(key, set()).add(entry["number"])
            elif _is(entry, "done", "upload"):
                stored.update(_keys(entry))
            elif _is(entry, "begin", "delete"):
                stored.difference_update(_keys(entry))
        return generations, sorted(stored)

    def _begin(self, operation: str, first: int, last: int) -> int:
        """Log that an operation begins, and return its number."""
        self._operations += 1
        self._note("begin", operation, first, last, self._operations)
        return self._operations

    def _note(self, what: str, operation: str, first: int, last: int, number: int, **more: str) -> None:
        entry = {"what": what, "operation": operation, "first": first, "last": last, "number": number, **more}
        with self._log.open("a") as out:
            out.write(json.dumps(entry) + "\n")


def _concurrently(*functions: Callable[[], None]) -> None:
    """Call each function in its own thread, and wait for all of them."""
    threads = [Thread(target=function) for function in functions]
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
    Writer(Path(log), name, int(first), int(seed), urls).run()
