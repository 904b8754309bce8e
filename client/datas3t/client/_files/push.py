"""push: put the files of folders into a datas3t, as archives that are made while they are sent."""

import copy
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from datas3t import v1
from datas3t.archive import parts, paths
from datas3t.archive.index import END_SIZE
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._files import sources as _sources
from datas3t.client._files.archive_task import ArchiveTask, Numbered, Surroundings
from datas3t.client._files.counts import Counts
from datas3t.client._files.crew import Crew, Handover, Permits
from datas3t.client._files.file_rows import FileRows
from datas3t.client._files.known import Known
from datas3t.client._files.listing import Hashes, Listing
from datas3t.client._files.plan import Begun, Group, Planner
from datas3t.client._files.push_journal import PushJournal
from datas3t.client._files.results import Pushed
from datas3t.client._files.walking import Messages, Source, Walker
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._transfers.journal import JournalEntry
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.task import Tuning, resumable
from datas3t.client.errors import Datas3tError, FileError, FilesFailed, InvalidArgument
from datas3t.client.progress import Progress

_MAX_LANES = 8  # archives under way at a time; each may have the names of 65,536 files in memory


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a push; see `Datas3t.push`."""

    prefix: str
    archive_size: int
    follow_links: bool
    tuning: Tuning

    def __post_init__(self) -> None:
        # The message names the parameter of the public method.
        if self.archive_size < 1:
            raise InvalidArgument(f"archive_size is {self.archive_size}; it must be 1 or more")
        if any(part in ("", ".", "..") for part in self.prefix.split("/")[:-1]):
            raise InvalidArgument(f"the prefix {self.prefix!r} is not a folder that files can be in, such as 'cats/'")


def options(prefix: str, archive_size: int, follow_links: bool, tuning: Tuning) -> Options:
    """Return the options of a push.

    Raises:
        InvalidArgument: A value is not allowed.
    """
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    try:
        return Options(paths.encode(folder), archive_size, follow_links, tuning)
    except paths.PathError as error:
        raise InvalidArgument(str(error)) from None


def found_sources(named: Sequence[str | os.PathLike[str]], files_from: str | os.PathLike[str] | None) -> list[Source]:
    """Return the sources that are named, or those in a list; see `Datas3t.push`.

    Raises:
        InvalidArgument: Nothing is named, or a list and several sources.
        FileError: What is named does not exist, or the list cannot be read.
    """
    if files_from is None:
        if not named:
            raise InvalidArgument("there is nothing to push; name a file or a folder")
        return _sources.named(named)
    if len(named) > 1:
        raise InvalidArgument("with a list of files, name one source: the folder that they are relative to")
    return _sources.listed(_sources.lines_of(files_from), named[0] if named else ".")


def push(
    session: Session,
    name: str,
    sources: Sequence[Source],
    settings: Options,
    *,
    dry_run: bool,
    progress: Progress | None,
) -> Pushed:
    """Push files; see `Datas3t.push`."""
    own = copy.copy(session)  # with a connection that can be closed to end calls at Ctrl-C
    try:
        with resumable(f"the push to {name!r}"):
            done = _Push(own, name, sources, settings, progress)
            pushed = done.dry_run() if dry_run else done.run()
    finally:
        own.close()
    if pushed.failed:
        what = "1 file was" if pushed.failed == 1 else f"{pushed.failed} files were"
        raise FilesFailed(f"{what} not pushed: {pushed.failures[0]}; all others were", result=pushed)
    return pushed


class _Push:
    def __init__(
        self, session: Session, name: str, sources: Sequence[Source], settings: Options, progress: Progress | None
    ) -> None:
        self._session = session
        self._connection = session.connection
        self._name = name
        self._settings = settings
        self._rows = FileRows(session, name, CatalogueCache(session, name))
        self._known = Known(())
        self._walker = Walker(follow_links=settings.follow_links)
        self._crew = Crew(session.close)
        self._listing = Listing(sources, settings.prefix, self._walker, self._are_unchanged, self._crew.stop)
        self._counts = Counts("push", progress)
        self._failures = Messages()
        self._lock = threading.Lock()
        self._pushed = Pushed(0, 0, 0, 0, 0, 0)
        absolute = [Source(os.path.abspath(source.base or b"."), source.name) for source in sources]
        self._journal = PushJournal(session.url, name, absolute, settings.prefix)

    def dry_run(self) -> Pushed:
        """Return what a push would do."""
        self._look_up()
        self._crew.start(self._listing.fill)
        groups = Planner(self._settings.archive_size, self._listing.path_of).groups(self._files())
        self._pushed = replace(self._pushed, archives=sum(1 for _ in groups))
        self._crew.finish(lambda: None)
        return self._result(self._listing.files, self._listing.size)

    def run(self) -> Pushed:
        """Push."""
        with self._journal.locked():
            # What is there is looked up when no other run of this push can add to it any more.
            self._complete_sent()
            self._look_up()
            begun = {each.path: each for each in self._journal.begun()}
            archives: Handover[Numbered] = Handover(self._crew)
            around = Surroundings(
                self._connection,
                self._name,
                self._listing.bases,
                self._listing.path_of,
                self._settings.tuning,
                self._crew,
                Permits(self._crew, self._settings.tuning.parallelism),
                self._counts,
            )
            self._crew.start(self._listing.fill)
            self._crew.start(lambda: self._plan(begun, archives))
            for _ in range(min(self._settings.tuning.parallelism, _MAX_LANES)):
                self._crew.start(lambda: self._send(archives, around))
            self._crew.finish(self._report)
            self._report()
            for abandoned in self._journal.begun():
                self._cancel(abandoned)
        return self._result(self._pushed.files, self._pushed.size)

    def _complete_sent(self) -> None:
        """Complete the archives that an earlier run has sent.

        The server may be completing one of them at the moment. Unless its end is awaited, files of an archive of which
        others have changed would be sent again, and be there twice.
        """
        for begun in self._journal.begun():
            journal = self._journal.of(begun)
            entry = journal.read()
            if not entry or not entry.sent:
                continue
            sent = OpenUpload(self._connection, entry.upload_id, 0)
            sent.extension, sent.table_file_ids = begun.extension, entry.table_file_ids
            try:
                retry_while_unavailable(partial(sent.complete, entry.etags))
            except Datas3tError as error:
                if error.reason not in ArchiveTask.closed_reasons:
                    raise
            journal.remove()

    def _look_up(self) -> None:
        self._known = Known(self._rows.tables("key", "path", "size", "mtime"))

    def _are_unchanged(self, hashes: Hashes, sizes: NDArray[np.int64], mtimes: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self._known.are_unchanged(hashes, sizes, mtimes)

    def _files(self) -> Iterator[tuple[bytes, int, int, int]]:
        return chain.from_iterable(batch.unpacked() for batch in self._listing)

    def _plan(self, begun: dict[str, Begun], archives: Handover[Numbered]) -> None:
        """Divide the files among archives, and number them in their order."""
        planner = Planner(self._settings.archive_size, self._listing.path_of, begun)
        for group in planner.groups(self._files()):
            if int(group.sizes[0]) > parts.MAX_OBJECT - 8 * END_SIZE:
                self._fail(group, FileError(f"{group.names[0]!r} is too large for an object in S3"))
            else:
                archives.put(self._numbered(group))
        archives.complete()

    def _numbered(self, group: Group) -> Numbered:
        count = len(group.names)
        begun = group.begun or Begun(
            uuid.uuid4().hex, self._listing.path_of(group.names[0]), count, group.digest(), group.extension
        )
        journal = self._journal.of(begun)
        if not group.begun:
            journal.write(JournalEntry(0))  # a repeat of the next call then gets the same keys
        response = self._connection.datas3t.ReserveKeys(
            v1.ReserveKeysRequest(datas3t_name=self._name, count=count, request_id=begun.request_id)
        )
        return Numbered(group, response.first_datapoint_index, response.reservation_id, journal)

    def _send(self, archives: Iterable[Numbered], around: Surroundings) -> None:
        """Send one archive after another."""
        for archive in archives:
            task = ArchiveTask(archive, around)
            try:
                task.run(None)
            except Datas3tError as error:
                if not isinstance(error, FileError) and error.reason != "UPLOAD_INVALID":
                    raise
                task.failed()
                self._fail(archive.group, error)
            else:
                self._succeed(archive.group)

    def _succeed(self, group: Group) -> None:
        files, size = len(group.names), int(group.sizes.sum())
        with self._lock:
            done = self._pushed
            self._pushed = replace(done, files=done.files + files, size=done.size + size, archives=done.archives + 1)
        self._counts.add(files=files)

    def _fail(self, group: Group, error: Datas3tError) -> None:
        others = len(group.names) - 1
        text = f"{error}; {others} others of its archive were left out too" if others else str(error)
        with self._lock:
            self._failures.add(text, len(group.names))
        self._counts.add(files=len(group.names))

    def _report(self) -> None:
        self._counts.report(self._listing.stored_size, self._listing.files)

    def _cancel(self, abandoned: Begun) -> None:
        """Cancel the upload of an archive whose files were changed since it was begun."""
        journal = self._journal.of(abandoned)
        entry = journal.read()
        if entry and entry.upload_id:
            with suppress(Datas3tError):  # it ended long ago, or will when its time is over
                OpenUpload(self._connection, entry.upload_id, 0).cancel()
        journal.remove()

    def _result(self, files: int, size: int) -> Pushed:
        refused = self._walker.refused
        return replace(
            self._pushed,
            files=files,
            size=size,
            unchanged=self._listing.known,
            left_out=self._walker.left_out.count,
            failed=refused.count + self._failures.count,
            notes=tuple(self._walker.left_out.texts),
            failures=(*self._failures.texts, *refused.texts),
        )
