"""Import of WebDataset's shards: one thread reads samples into archives on disk, others upload these.

A shard is divided into parts of so many samples that its archives have a useful size. Each part gets keys when it is
complete, in the order of the shards, and is committed field by field.
"""

import copy
import shutil
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from datas3t.client._calls.keys import Reservation
from datas3t.client._calls.session import Session
from datas3t.client._files._shards.destinations import Destinations, name_of
from datas3t.client._files._shards.division import Division
from datas3t.client._files._shards.journal import Journal, Part
from datas3t.client._files._shards.spools import Archive, Columns, Nested, Piece
from datas3t.client._files._shards.streams import BadShard, Shard, opened, stamp_of
from datas3t.client._files._shards.uploading import upload
from datas3t.client._files._writer.sending import check_tables_work
from datas3t.client._files.counts import Counts
from datas3t.client._files.crew import Crew, Handover
from datas3t.client._files.results import ImportedShards
from datas3t.client._files.walking import Messages
from datas3t.client._reading import catalogue
from datas3t.client._transfers.task import Tuning, resumable
from datas3t.client.errors import FilesFailed, InvalidArgument, NotFound
from datas3t.client.progress import Progress

_MAX_SAMPLES = 1 << 16  # of a part, which bounds the memory for the rows of its files
_LANES = 2  # parts that are uploaded at a time


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an import; see `Client.import_webdataset`."""

    fields: frozenset[str] | None
    is_nested: bool
    bucket: str | None
    archive_size: int
    tuning: Tuning

    def __post_init__(self) -> None:
        # The message names the parameter of the public method.
        if self.archive_size < 1:
            raise InvalidArgument(f"archive_size is {self.archive_size}; it must be 1 or more")
        if self.fields is not None and (self.is_nested or not self.fields):
            raise InvalidArgument("name at least one field, or none and nest=True")

    @property
    def how(self) -> str:
        """What distinguishes the import from others of the same shards."""
        return "nest" if self.is_nested else ",".join(sorted(self.fields or ()))


class _Ready(NamedTuple):
    """A part that is to be uploaded."""

    part: Part
    archives: list[Archive]
    keys: dict[str, Reservation]
    folder: Path


def import_shards(
    session: Session, name: str, shards: Iterable[Shard], options: Options, progress: Progress | None
) -> ImportedShards:
    """Import shards; see `Client.import_webdataset`."""
    check_tables_work()
    name_of(name, "")
    own = copy.copy(session)  # with a connection that can be closed to end calls at Ctrl-C
    try:
        with resumable(f"the import into {name!r}"):
            done = _Import(own, name, list(shards), options, progress).run()
    finally:
        own.close()
    if done.failed:
        what = "1 shard was" if done.failed == 1 else f"{done.failed} shards were"
        raise FilesFailed(f"{what} not imported to the end: {done.failures[0]}; all others were", result=done)
    return done


class _Import:
    def __init__(
        self, session: Session, name: str, shards: Sequence[Shard], options: Options, progress: Progress | None
    ) -> None:
        self._session = session
        self._name = name
        self._shards = shards
        self._options = options
        self._journal = Journal(session.url, name, options.how)
        self._crew = Crew(session.close)
        self._ready: Handover[_Ready] = Handover(self._crew)
        self._counts = Counts("import", progress)
        self._to_read = self._read = 0  # bytes and samples, for the progress
        self._notes, self._failures = Messages(), Messages()
        self._lock = threading.Lock()
        self._result = ImportedShards(0, 0, 0)
        self._pieces = 0

    def run(self) -> ImportedShards:
        """Import all shards that were not imported."""
        with self._journal.opened():
            self._destinations = Destinations(self._session.connection, self._name, self._options.bucket)
            self._destinations.add(sorted(self._options.fields or ()))
            self._crew.start(self._plan)
            for _ in range(_LANES):
                self._crew.start(self._send)
            self._crew.finish(self._report)
            self._report()
        return replace(
            self._result,
            datas3ts=dict(self._destinations.names),
            left_out=self._notes.count,
            failed=self._failures.count,
            notes=tuple(self._notes.texts),
            failures=tuple(self._failures.texts),
        )

    def _report(self) -> None:
        self._counts.report(self._to_read, self._read)

    # The thread that reads

    def _plan(self) -> None:
        """Read shard after shard into archives."""
        self._forget_deleted()
        seen: set[str] = set()
        for shard in self._shards:
            self._crew.check()
            if shard.name in seen:
                self._failures.add(f"{shard.name} is named twice")
                continue
            seen.add(shard.name)
            try:
                self._import(shard)
            except BadShard as error:
                self._failures.add(f"{shard.name}: {error}")
        self._ready.complete()

    def _forget_deleted(self) -> None:
        """Have shards imported again whose samples are all gone, because datas3ts were cleared or deleted."""
        for name, done in self._journal.shards.items():
            committed = [part for part in done.parts if part.first is not None and part.fields]
            if committed and not any(self._is_present(part) for part in committed):
                self._journal.forget(name)
            for part in done.parts:
                self._destinations.used(part.fields, part.target if part.first is None else part.first, part.count)

    def _is_present(self, part: Part) -> bool:
        assert part.first is not None
        for field in part.fields:
            try:
                found = catalogue.load(
                    self._session.connection, name_of(self._name, field), part.first, part.first + part.count - 1
                )
            except NotFound:
                continue
            if found.count(part.first, part.first + part.count - 1):
                return True
        return False

    def _import(self, shard: Shard) -> None:
        done = self._journal.shard(shard.name)
        if done is not None:
            self._destinations.add(sorted({field for part in done.parts for field in part.fields}))
        if done is not None and done.is_done:
            if (stamp := stamp_of(shard)) and stamp != done.stamp:
                raise BadShard("it was changed since it was imported; to import it as well, give it another name")
            with self._lock:
                self._result = replace(self._result, unchanged=self._result.unchanged + 1)
            return
        with opened(shard, self._options.tuning.retries, self._wait) as source:
            self._to_read += source.size
            Division(self, shard, done or self._journal.begin(shard.name, source.stamp), source).run()
        with self._lock:
            self._result = replace(self._result, shards=self._result.shards + 1)

    def _wait(self, seconds: float) -> None:
        self._crew.stop.wait(seconds)
        self._crew.check()

    def note(self, text: str, count: int = 1) -> None:
        """Remember what is worth knowing."""
        self._notes.add(text, count)

    def read(self, size: int) -> None:
        """Count what was read of a shard."""
        self._crew.check()
        self._counts.add(size=size)
        self._to_read = max(self._to_read, self._counts.size)

    def is_wanted(self, field: str) -> bool:
        """Return whether a field is imported."""
        return self._options.fields is None or field in self._options.fields

    def new_piece(self) -> Piece:
        """Return a piece without samples."""
        self._pieces += 1
        kind = Nested if self._options.is_nested else Columns
        return kind(self._journal.scratch / str(self._pieces), self._destinations.next)

    def is_full(self, piece: Piece) -> bool:
        """Return whether the next sample belongs to another piece."""
        return piece.count >= _MAX_SAMPLES or piece.size >= self._options.archive_size

    def hand_over(self, shard: Shard, piece: Piece, start: int, digest: str, part: Part | None) -> None:
        """Give a piece its keys, and have it uploaded.

        Args:
            shard: The shard that it is from.
            piece: The piece.
            start: The number of its first sample within the shard.
            digest: The digest of its files.
            part: The part that it is, if an earlier run has noted it.
        """
        fields = tuple(spool.field for spool in piece.spools)
        self._destinations.add(fields)
        if part is None:
            plan = self._destinations.plan(fields)
            part = self._journal.add(shard.name, Part(uuid.uuid4().hex, start, piece.count, fields, digest, *plan))
        keys = self._destinations.reserve(fields, piece.count, part.id, part.target, part.gaps)
        if keys:
            piece.number(keys[fields[0]].first)
        self._read += piece.count
        archives = [spool.complete() for spool in piece.spools]
        self._ready.put(_Ready(part, archives, keys, piece.folder))

    def end(self, shard: Shard, samples: int) -> None:
        """Note that a shard was read to its end."""
        self._journal.end(shard.name, samples)

    # The threads that upload

    def _send(self) -> None:
        for part, archives, keys, folder in self._ready:
            size = 0
            for archive in archives:
                reserved = keys[archive.field]
                size += upload(
                    self._session,
                    self._destinations.names[archive.field],
                    archive,
                    reserved,
                    self._journal.kind,
                    self._options.tuning,
                    self._crew.check,
                )
            self._journal.done(part.id, keys[archives[0].field].first if archives else 0)
            shutil.rmtree(folder, ignore_errors=True)
            with self._lock:
                done = self._result
                self._result = replace(done, samples=done.samples + part.count, size=done.size + size)
            self._counts.add(files=part.count)
