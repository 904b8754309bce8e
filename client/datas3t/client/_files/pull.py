"""pull: write the datapoints of a datas3t as files, under the paths that they were pushed with."""

import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from datas3t.archive import paths
from datas3t.archive.checksums import crc
from datas3t.client._calls.arguments import check_path
from datas3t.client._calls.session import Session
from datas3t.client._files import large, tree
from datas3t.client._files.counts import Counts
from datas3t.client._files.crew import Crew, Handover
from datas3t.client._files.file_rows import LARGE, Chosen, FileRows, Row, matching
from datas3t.client._files.results import Pulled
from datas3t.client._files.tree import Place, Refused, Tree
from datas3t.client._files.walking import Messages
from datas3t.client._reading.datapoint import Datapoint, DatapointView
from datas3t.client._reading.reader import Reader
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.presence import Presence
from datas3t.client._transfers.task import resumable
from datas3t.client.errors import (
    ArchiveError,
    ChecksumMismatch,
    DatapointNotFound,
    FilesFailed,
    NotFound,
    ObjectChanged,
)
from datas3t.client.keyset import KeySet
from datas3t.client.progress import Progress

_LANES = 4  # threads that fetch and write
_UNNAMED = 1_024  # datapoints without a path that are read together
# Errors that concern single datapoints; the others are written.
_OF_ONE = (ArchiveError, ChecksumMismatch, NotFound, ObjectChanged)


class _Unchanged(Exception):  # noqa: N818 - an event, not an error
    """What was fetched is there already."""


class Span(NamedTuple):
    """Keys of datapoints without a path, inclusive."""

    first: int
    last: int


Job: TypeAlias = Sequence[Row] | Span


def pull(
    session: Session,
    name: str,
    output: str | os.PathLike[str],
    *,
    first: int,
    last: int,
    match: str | None,
    overwrite: bool,
    progress: Progress | None,
) -> Pulled:
    """Write datapoints as files; see `Datas3t.pull`."""
    folder = check_path(output, "the output")
    matching(match)  # a pattern that is not valid is told first
    own = copy.copy(session)  # with a connection that can be closed to end calls at Ctrl-C
    try:
        with resumable(f"the pull of {name!r}"):
            pulled = _Pull(own, name, folder, match, progress, overwrite=overwrite).run(first, last)
    finally:
        own.close()
    if pulled.failed:
        what = "1 file was" if pulled.failed == 1 else f"{pulled.failed} files were"
        raise FilesFailed(f"{what} not pulled: {pulled.failures[0]}; all others were", result=pulled)
    return pulled


class _Pull:
    def __init__(
        self,
        session: Session,
        name: str,
        output: str,
        match: str | None,
        progress: Progress | None,
        *,
        overwrite: bool,
    ) -> None:
        self._connection = session.connection
        self._name = name
        self._output = output
        self._match = match
        self._overwrite = overwrite
        self._reader = Reader(session, name)
        self._rows = FileRows(session, name, self._reader.catalogues)
        self._crew = Crew(session.close)
        self._counts = Counts("pull", progress)
        self._failures = Messages()
        self._lock = threading.Lock()
        self._pulled = Pulled(0, 0, 0, 0)
        self._total_size = self._total_files = 0

    def run(self, first: int, last: int) -> Pulled:
        """Pull the keys from `first` to `last`."""
        Tree(self._output).close()  # before anything is fetched
        jobs: Handover[Job] = Handover(self._crew, 2 * _LANES)
        self._crew.start(lambda: self._plan(first, last, jobs))
        for _ in range(_LANES):
            self._crew.start(lambda: self._work(jobs))
        self._crew.finish(self._report)
        self._report()
        return replace(self._pulled, failed=self._failures.count, failures=tuple(self._failures.texts))

    def _plan(self, first: int, last: int, jobs: Handover[Job]) -> None:
        chosen = Chosen(self._rows, first, last, self._match)
        present = Presence(self._reader.catalogues).within(first, last).spans
        inside = [(max(low, first), min(high, last)) for low, high in present if low <= last and high >= first]
        unnamed = KeySet.of(inside) - chosen.named
        self._total_size, self._total_files = chosen.size, chosen.files + len(unnamed)
        for batch in chosen.batches():
            jobs.put(batch)
        for low, high in unnamed.spans:
            for start in range(low, high + 1, _UNNAMED):
                jobs.put(Span(start, min(start + _UNNAMED - 1, high)))
        jobs.complete()

    def _report(self) -> None:
        self._counts.report(self._total_size, self._total_files)

    def _work(self, jobs: Handover[Job]) -> None:
        written = Tree(self._output)
        try:
            for job in jobs:
                if isinstance(job, Span):
                    self._write_unnamed(job, written)
                elif job[0].size >= LARGE:
                    self._write_large(job[0], written)
                else:
                    self._write_small(job, written)
        finally:
            written.close()

    def _write_small(self, rows: Sequence[Row], written: Tree) -> None:
        """Fetch files together, and write them."""
        missing = [row for row in rows if self._is_missing(row, written)]
        for row, content in self._contents(missing):
            self._crew.check()
            with self._told(row.path), written.place(_name(row)) as place:
                if len(content) != row.size or crc(content) != row.crc32c:
                    raise Refused(f"datapoint {row.key} is not what its row in the table files says")
                tree.write(place, _writer(content), row.mtime)
                self._succeed(row.size)

    def _write_large(self, row: Row, written: Tree) -> None:
        """Fetch a file straight to its place."""
        if not self._is_missing(row, written):
            return

        def fill(fd: int) -> None:
            if self._fetched(row.key, row.size, fd) != row.crc32c:
                raise Refused(f"datapoint {row.key} has another checksum than its row in the table files")

        with self._told(row.path), written.place(_name(row)) as place:
            tree.write(place, fill, row.mtime)
            self._succeed(row.size, counted=row.size)

    def _fetched(self, key: int, size: int, fd: int) -> int:
        """Fetch a content straight into a file, and return its CRC-32C, which is compared with its checksum."""

        def fetch() -> int:
            large.fetch(
                self._connection,
                self._name,
                key,
                size,
                fd,
                on_bytes=lambda size: self._counts.add(size=size),
                check=self._crew.check,
            )
            return tree.crc_of(fd, size)

        return large.compared(self._reader, key, fetch)

    def _write_unnamed(self, span: Span, written: Tree) -> None:
        """Write datapoints without a path under the names of their entries."""
        matches = matching(self._match)

        def is_matched(name: str) -> bool:
            return bool(matches(pa.chunked_array([[name]], pa.string()))[0].as_py())

        start = span.first
        for key in self._reader.large(span.first, span.last, LARGE):
            self._write_small_unnamed(Span(start, key - 1), written, is_matched)
            with self._told(f"datapoint {key}"):
                self._write_large_unnamed(key, written, is_matched)
            start = key + 1
        self._write_small_unnamed(Span(start, span.last), written, is_matched)

    def _write_small_unnamed(self, span: Span, written: Tree, is_matched: Callable[[str], bool]) -> None:
        for datapoint in self._scanned(span):
            self._crew.check()
            if not is_matched(datapoint.name):
                self._counts.add(files=1)
                continue
            size = len(datapoint.content)
            with self._told(datapoint.name), written.place(os.fsencode(datapoint.name)) as place:
                if self._is_to_write(place, size, crc(datapoint.content)):
                    tree.write(place, _writer(datapoint.content), None)
                    self._succeed(size, counted=size)

    def _write_large_unnamed(self, key: int, written: Tree, is_matched: Callable[[str], bool]) -> None:
        (info,) = self._reader.describe([key])
        name, size = info.name, info.size
        if not is_matched(name):
            self._counts.add(files=1)
            return

        checksum = large.checksum(self._reader, key)

        def fill(fd: int) -> None:
            found = self._fetched(key, size, fd)
            if checksum is None and not self._is_to_write(place, size, found):
                raise _Unchanged

        with written.place(os.fsencode(name)) as place, suppress(_Unchanged):
            if checksum is None or self._is_to_write(place, size, checksum, counted=size):
                tree.write(place, fill, None)
                self._succeed(size, counted=size)

    def _scanned(self, span: Span) -> Iterator[Datapoint | DatapointView]:
        """Yield datapoints in key order. If one cannot be had, the others are fetched alone."""
        key = span.first
        if key > span.last:
            return
        try:
            for datapoint in self._reader.scan(key, span.last, copy=False):
                key = datapoint.key + 1
                yield datapoint
        except _OF_ONE:
            for alone in range(key, span.last + 1):
                with self._told(f"datapoint {alone}"), suppress(DatapointNotFound):  # it was deleted meanwhile
                    yield from self._reader.datapoints([alone])

    def _contents(self, rows: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
        """Yield the contents of small files. If one cannot be had, the others are fetched alone."""
        try:
            contents = self._reader.get_many([row.key for row in rows])
        except _OF_ONE:
            for row in rows:
                with self._told(row.path):
                    yield row, self._reader.get(row.key)
        else:
            yield from zip(rows, contents, strict=True)

    def _is_missing(self, row: Row, written: Tree) -> bool:
        """Return whether a file must be fetched and written."""
        with self._told(row.path), written.place(_name(row)) as place:
            return self._is_to_write(place, row.size, row.crc32c, counted=row.size)
        return False

    def _is_to_write(self, place: Place, size: int, crc32c: int, counted: int = 0) -> bool:
        is_there = tree.is_there(place, size, crc32c)
        if is_there:
            with self._lock:
                self._pulled = replace(self._pulled, unchanged=self._pulled.unchanged + 1)
            self._counts.add(size=counted, files=1)
        elif is_there is False and not self._overwrite:
            raise Refused("something else is there; overwrite it, or choose another output")
        return not is_there

    def _succeed(self, size: int, counted: int = 0) -> None:
        with self._lock:
            done = self._pulled
            self._pulled = replace(done, files=done.files + 1, size=done.size + size)
        self._counts.add(size=size - counted, files=1)

    def _told(self, path: str) -> "_Told":
        return _Told(self._fail, path)

    def _fail(self, path: str, error: Exception) -> None:
        with self._lock:
            self._failures.add(f"{path}: {error}")
        self._counts.add(files=1)


class _Told:
    """Context that notes an error of one file, after which the others are written."""

    def __init__(self, fail: Callable[[str, Exception], None], path: str) -> None:
        self._fail = fail
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        concerns_one = isinstance(error, (Refused, paths.PathError, *_OF_ONE))
        if concerns_one:
            assert isinstance(error, Exception)
            self._fail(self._path, error)
        return concerns_one


def _name(row: Row) -> bytes:
    return paths.decode(row.path)


def _writer(content: bytes | memoryview) -> Callable[[int], None]:
    return lambda fd: tree.write_all(fd, content)
