"""A client of the soak run: reserves keys, and adds, replaces, drops and deletes table files of its own datas3t.

    python -m tests.faults.tables LOG SEED URL...

It logs what it begins, with the ids of files, and what was acknowledged. `check` compares the log with the server. The
content of a file follows from its id.
"""

import contextlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from datas3t import v1
from datas3t.client import Client, Datas3tError, NotFound
from tests.faults.writer import entries
from tests.support.tars import archive
from tests.support.uploads import get, put

NAME = "soak-tables"
TABLES = ("labels", "files")
SIZE = 64  # bytes of a file


def content(file_id: int) -> bytes:
    """Return the content of a file, which begins and ends as Parquet."""
    return b"PAR1" + file_id.to_bytes(SIZE - 8) + b"PAR1"


class TableClient:
    """Does one random step after another, on any of the servers."""

    def __init__(self, log: Path, seed: int, urls: list[str]) -> None:
        self._log = log
        earlier = list(entries(log))
        self._random = random.Random(seed * 1000 + len(earlier))
        self._clients = [Client(url, timeout=10) for url in urls]
        self._requests = [each["request"] for each in earlier if each["what"] == "asked"][-3:]
        self._steps: list[tuple[Callable[[Client], None], int]] = [  # with their weights
            (self._add, 6),
            (self._cancel, 2),
            (self._replace, 5),
            (self._add_with_archive, 5),
            (self._delete_archive, 1),
            (self._drop, 1),
            (self._reserve, 4),
        ]

    def run(self) -> None:
        """Repeat until the process that started this one has ended."""
        parent = os.getppid()
        while os.getppid() == parent:
            step = self._random.choices(*zip(*self._steps, strict=True))[0]
            client = self._random.choice(self._clients)
            try:
                client.add_datas3t(NAME, bucket="local")
                step(client)
            except (Datas3tError, OSError) as error:
                self._note("failed", error=f"{type(error).__name__}: {error}")

    def _start(
        self, client: Client, what: str, first: int, last: int, replaces: Iterable[int] = (), **more: Any
    ) -> Any:
        table = more.pop("table", None) or self._random.choice(TABLES)
        started = client.connection.table.StartTableFile(
            v1.StartTableFileRequest(
                datas3t_name=NAME, table=table, first_key=first, last_key=last, size=SIZE, replaces=replaces
            )
        )
        more |= {"id": started.table_file_id, "table": table, "first": first, "last": last, "replaces": list(replaces)}
        self._note("begin", operation=what, **more)
        return started

    def _complete(self, client: Client, started: Any, what: str) -> None:
        put(started.presigned_put_url, content(started.table_file_id))
        client.connection.table.CompleteTableFile(v1.CompleteTableFileRequest(table_file_id=started.table_file_id))
        self._note("done", operation=what, id=started.table_file_id)

    def _add(self, client: Client) -> None:
        first = self._random.randrange(1000)
        self._complete(client, self._start(client, "add", first, first + self._random.randrange(300)), "add")

    def _cancel(self, client: Client) -> None:
        """Cancel a file, and PUT it after that: the object must be deleted, and never become visible."""
        started = self._start(client, "cancel", 1, 5)
        request = v1.CancelTableFileRequest(table_file_id=started.table_file_id)
        client.connection.table.CancelTableFile(request)
        with contextlib.suppress(OSError):
            put(started.presigned_put_url, content(started.table_file_id))

    def _replace(self, client: Client) -> None:
        """Replace the oldest files of a table by one."""
        table = self._random.choice(TABLES)
        chosen = files(client, table)[: self._random.randrange(1, 5)]
        if chosen:
            first, last = min(each.first_key for each in chosen), max(each.last_key for each in chosen)
            replaces = [each.table_file_id for each in chosen]
            started = self._start(client, "replace", first, last, replaces, table=table)
            self._complete(client, started, "replace")

    def _add_with_archive(self, client: Client) -> None:
        """Complete an archive of reserved keys together with a file about them."""
        count = self._random.randrange(1, 4)
        reserved = client.reserve_keys(NAME, count)
        self._note("reserved", first=reserved.first, last=reserved.last)
        body = archive(reserved.first, [b"x"] * count)
        upload = client.connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=NAME,
                first_datapoint_index=reserved.first,
                number_of_datapoints=count,
                data_size=len(body),
                reservation_id=reserved.id,
            )
        )
        started = self._start(client, "together", reserved.first, reserved.last)
        put(upload.presigned_data_put_url, body)
        index = b"".join((1024 * number).to_bytes(8) + (1).to_bytes(2) + (1).to_bytes(6) for number in range(count))
        put(upload.presigned_index_put_url, index)
        put(started.presigned_put_url, content(started.table_file_id))
        request = v1.CompleteUploadRequest(
            datarange_upload_id=upload.datarange_upload_id, table_file_ids=[started.table_file_id]
        )
        client.connection.datarange.CompleteUpload(request)
        self._note("done", operation="together", id=started.table_file_id)

    def _delete_archive(self, client: Client) -> None:
        """Delete a datarange, and with it the files that lie within it."""
        dataranges = client.list_dataranges(NAME)
        if len(dataranges) > 5:
            chosen = self._random.choice(dataranges)
            self._note("begin", operation="delete", first=chosen.first, last=chosen.last)
            client.delete_dataranges(NAME, chosen.first, chosen.last)
            self._note("done", operation="delete", first=chosen.first, last=chosen.last)

    def _drop(self, client: Client) -> None:
        table = self._random.choice(TABLES)
        self._note("begin", operation="drop", table=table)
        with contextlib.suppress(NotFound):
            client.connection.table.DropTable(v1.DropTableRequest(datas3t_name=NAME, table=table))
        self._note("done", operation="drop", table=table)

    def _reserve(self, client: Client) -> None:
        """Reserve keys from many threads at once, some of them by requests that were sent before."""
        requests = [*self._requests, *(uuid4().hex for _ in range(3))]
        for request in requests[len(self._requests) :]:
            self._note("asked", request=request)
        self._requests = requests[-3:]

        def reserve(request: str) -> None:
            with contextlib.suppress(Datas3tError):
                reserved = client.reserve_keys(NAME, 2, request)
                self._note("reserved", first=reserved.first, last=reserved.last, request=request)

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(reserve, requests))

    def _note(self, what: str, **more: Any) -> None:
        with self._log.open("a") as out:
            out.write(json.dumps({"what": what, "operation": "", **more}) + "\n")


def files(client: Client, table: str) -> list[v1.PresignedTableFile]:
    """Return the files of a table, by counter; none if there is no such table."""
    try:
        response = client.connection.table.PresignTable(v1.PresignTableRequest(datas3t_name=NAME, table=table))
    except NotFound:
        return []
    assert not response.next_page_token
    return list(response.files)


@dataclass
class Expected:
    """What a log says: the files that must exist, those that may, and those that stand or fall together.

    `swaps` are replacements without an acknowledgement: the ids of what was there before. `archives` are the spans of
    archives that were to be completed with a file. `reserved` are spans, each with the request that it belongs to.
    """

    must: set[int] = field(default_factory=set)
    may: set[int] = field(default_factory=set)
    swaps: dict[int, set[int]] = field(default_factory=dict)
    archives: dict[int, tuple[int, int]] = field(default_factory=dict)
    reserved: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    _begun: dict[int, dict[str, Any]] = field(default_factory=dict)
    _going: set[int] = field(default_factory=set)

    def read(self, log: Path) -> "Expected":
        """Take all entries of a log in their order."""
        for entry in entries(log):
            if entry["what"] == "reserved":
                self.reserved.setdefault((entry["first"], entry["last"]), set()).add(entry.get("request", ""))
            elif entry["what"] in ("begin", "done"):
                is_file = entry["operation"] in ("add", "cancel", "replace", "together")
                (self._file if is_file else self._removal)(entry, entry["what"] == "done")
        return self

    def _file(self, entry: dict[str, Any], is_done: bool) -> None:
        file_id = entry["id"]
        if is_done:
            self.may.discard(file_id)
            self.must.add(file_id)
            self.may -= self.swaps.pop(file_id, set())
            return
        self._begun[file_id] = entry
        if entry["operation"] == "cancel":
            return
        self.may.add(file_id)
        if entry["operation"] == "together":
            self.archives[file_id] = (entry["first"], entry["last"])
        if replaced := set(entry["replaces"]):
            self._unsure(replaced)
            self.swaps[file_id] = replaced

    def _removal(self, entry: dict[str, Any], is_done: bool) -> None:
        if is_done:
            self.may -= self._going
            return
        # A file without acknowledgement may still be completed after a deletion. Dropping its table cancels it.
        self._going = {file_id for file_id, begun in self._begun.items() if _is_within(begun, entry)}
        if entry["operation"] == "delete":
            self._going &= self.must
            span = entry["first"], entry["last"]
            self.archives = {file_id: each for file_id, each in self.archives.items() if each != span}
        self._unsure(self._going)

    def _unsure(self, ids: set[int]) -> None:
        self.may |= ids & self.must
        self.must -= ids
        self.swaps = {file_id: replaced - ids for file_id, replaced in self.swaps.items()}
        for file_id in ids:
            self.archives.pop(file_id, None)


def _is_within(begun: dict[str, Any], removal: dict[str, Any]) -> bool:
    if removal["operation"] == "drop":
        return bool(begun["table"] == removal["table"])
    return bool(removal["first"] <= begun["first"] and begun["last"] <= removal["last"])


def broken(log: Path, client: Client) -> Iterator[str]:
    """Yield which guarantees are broken, as the log and the server show."""
    expected = Expected().read(log)
    present = {each.table_file_id: each for table in TABLES for each in files(client, table)}
    if missing := sorted(expected.must - present.keys()):
        yield f"{len(missing)} acknowledged table files are missing, the first {missing[0]}"
    if extra := sorted(present.keys() - expected.must - expected.may):
        yield f"{len(extra)} table files should not exist, the first {extra[0]}"
    for file_id, each in present.items():
        if get(each.presigned_url, 0, SIZE) != content(file_id):
            yield f"table file {file_id} has another content"
    for file_id, replaced in expected.swaps.items():
        there = replaced & present.keys()
        if there if file_id in present else there != replaced:
            yield f"table file {file_id} has replaced some of {sorted(replaced)} and not others"
    keys = client.datapoints_bitmap(NAME)
    for file_id, (first, last) in expected.archives.items():
        if (file_id in present) != all(key in keys for key in range(first, last + 1)):
            yield f"of the archive from {first} to {last} and table file {file_id}, one was committed alone"
    for earlier, later in pairwise(sorted(expected.reserved)):
        if earlier[1] >= later[0]:
            yield f"keys {later[0]} to {earlier[1]} were reserved twice"
    requests = [request for each in expected.reserved.values() for request in each if request]
    if len(set(requests)) < len(requests):
        yield "a request has reserved keys twice"
    if twice := [span for span, each in expected.reserved.items() if len(each) > 1]:
        yield f"two requests have the keys {twice[0]}"


if __name__ == "__main__":
    path, seed, *urls = sys.argv[1:]
    TableClient(Path(path), int(seed), urls).run()
