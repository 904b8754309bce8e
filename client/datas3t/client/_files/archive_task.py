"""One archive of a push: its parts are made from the files while they are sent, and committed with its rows."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from datas3t import v1
from datas3t.archive import checksums
from datas3t.client._calls import tables
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._files.contents import Contents
from datas3t.client._files.counts import Counts
from datas3t.client._files.crew import Crew, Permits
from datas3t.client._files.listing import NO_TIME
from datas3t.client._files.plan import Group
from datas3t.client._reading import catalogue
from datas3t.client._tables.files_rows import encoded, files_rows
from datas3t.client._tables.schemas import FILES
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.sending import is_because_of_crc
from datas3t.client._transfers.task import Task, Tuning
from datas3t.client.errors import FileError, TransferRefused
from datas3t.transport import Request, Response


class Numbered(NamedTuple):
    """The files of one archive with their keys.

    Attributes:
        group: The files.
        first: The key of the first one.
        reservation_id: What reserves the keys.
        journal: The journal of the archive.
    """

    group: Group
    first: int
    reservation_id: int
    journal: Journal


class Surroundings(NamedTuple):
    """What the archives of a push share.

    Attributes:
        connection: The connection to the server.
        name: The datas3t.
        bases: The folders that names are relative to.
        path_of: Returns the path of a file by its name.
        tuning: Parallelism and retries.
        crew: The threads of the push.
        permits: How many requests they may send at a time.
        counts: What is done.
    """

    connection: Connection
    name: str
    bases: Sequence[bytes]
    path_of: Callable[[bytes], str]
    tuning: Tuning
    crew: Crew
    permits: Permits
    counts: Counts


class ArchiveTask(Task[OpenUpload, bool]):
    """Sends one archive. An earlier run's parts are not sent again if S3 has them as the files make them now."""

    restart_reasons = frozenset(
        ("UPLOAD_NOT_FOUND", "UPLOAD_CANCELLED", "TABLE_FILE_NOT_FOUND", "TABLE_FILE_CANCELLED", "TABLE_FILE_COMPLETED")
    )
    closed_reasons = restart_reasons | {"UPLOAD_INVALID", "UPLOAD_COMPLETED", "DATARANGE_OVERLAPS"}
    final_errors = (FileError, TransferRefused)

    def __init__(self, archive: Numbered, around: Surroundings) -> None:
        super().__init__(archive.journal)
        self._archive = archive
        self._around = around
        self._contents = Contents(archive.group, around.bases, archive.first)
        self._layout = self._contents.layout
        self._extension = archive.group.extension
        self._counted = 0  # bytes that were counted as done

    @property
    def size(self) -> int:
        """The size of the archive in bytes."""
        return self._layout.size

    def start(self) -> OpenUpload:
        layout, around = self._layout, self._around
        upload = OpenUpload.start(
            around.connection, around.name, layout.first, len(layout), layout.size, self._archive.reservation_id
        )
        upload.extension = self._extension
        return upload

    def reopen(self, upload_id: int) -> OpenUpload:
        upload = OpenUpload(self._around.connection, upload_id, self._layout.size)
        upload.extension = self._extension
        entry = self._journal.read()
        upload.table_file_ids = entry.table_file_ids if entry else ()
        return upload

    def transfer(self, opened: OpenUpload, uploaded: Sequence[v1.UploadedPart]) -> tuple[list[str], bool]:
        etags = dict(self._unchanged_parts(opened, uploaded))
        try:
            self._send_parts(opened, etags)
        except TransferRefused as error:
            if not is_because_of_crc(error, opened):
                raise
            opened.open_without_crc()
            self._count(-self._counted)
            etags.clear()
            self._send_parts(opened, etags)
        self._send(self._beside(opened), lambda _request, _response: None)
        opened.crc = self._contents.crc()
        self._count(self._layout.size - self._counted)
        return [etags[number] for number in range(1, opened.part_count + 1)], True

    def committed(self) -> bool | None:
        first, last = self._layout.first, self._layout.last
        stored = catalogue.load(self._around.connection, self._around.name, first, last).count(first, last)
        return True if stored == len(self._layout) else None

    def check(self) -> None:
        self._around.crew.check()

    def failed(self) -> None:
        """Count the archive as done, because nothing more is sent of it."""
        self._count(self._layout.size - self._counted)

    def _resumed(self, entry: JournalEntry) -> tuple[OpenUpload, list[v1.UploadedPart]] | None:
        return super()._resumed(entry) if entry.upload_id else None  # else it has only been planned

    def _unchanged_parts(self, opened: OpenUpload, uploaded: Sequence[v1.UploadedPart]) -> Iterator[tuple[int, str]]:
        """Yield number and ETag of the parts that S3 has with the bytes that the files make: the ETag is their MD5."""
        for part in uploaded:
            if not (1 <= part.number <= opened.part_count and part.size == len(opened.part(part.number))):
                continue
            digest = hashlib.md5(usedforsecurity=False)
            positions = opened.part(part.number)
            for piece in self._contents.pieces(positions.start, positions.stop):
                self._around.crew.check()
                digest.update(piece)
            if digest.hexdigest() == part.etag:
                self._count(len(positions))
                yield part.number, part.etag

    def _send_parts(self, opened: OpenUpload, etags: dict[int, str]) -> None:
        """Send the parts without an ETag, and add theirs."""
        numbers: dict[Request, int] = {}

        def on_done(request: Request, response: Response) -> None:
            etags[numbers.pop(request)] = response.etag

        self._send(self._parts(opened, frozenset(etags), numbers), on_done, self._count)

    def _parts(self, opened: OpenUpload, skipped: frozenset[int], numbers: dict[Request, int]) -> Iterator[Request]:
        """Yield the requests that send the archive, and note the part of each; a direct one counts as part 0."""
        if opened.direct:
            request = Request("PUT", opened.data_url, body=self._contents.part(range(self._layout.size)))
            numbers[request] = 0
            yield request
        for number in range(1, opened.part_count + 1):
            if number not in skipped:
                request = Request(
                    "PUT", partial(opened.part_url, number), body=self._contents.part(opened.part(number))
                )
                numbers[request] = number
                yield request

    def _beside(self, opened: OpenUpload) -> Iterator[Request]:
        """Yield the requests that send the index, the checksums and the rows of the files."""
        group = self._archive.group
        crcs = self._contents.crcs()
        rows = files_rows(
            range(self._layout.first, self._layout.last + 1),
            [self._around.path_of(name) for name in group.names],
            group.sizes,
            [None if mtime == NO_TIME else mtime for mtime in group.mtimes.tolist()],
            crcs,
        )
        file = encoded(rows)
        yield Request("PUT", opened.index_url, body=self._layout.index())
        yield Request("PUT", opened.checksums_url, body=checksums.encode(crcs.tolist()))
        first, last = self._layout.first, self._layout.last
        started = tables.start(self._around.connection, self._around.name, FILES, first, last, len(file))
        opened.table_file_ids = (started.id,)
        yield Request("PUT", started.url, body=file)

    def _send(
        self,
        requests: Iterator[Request],
        on_done: Callable[[Request, Response], None],
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        around = self._around
        paced = _Paced(requests, around.permits)

        def done(request: Request, response: Response) -> None:
            paced.end()
            on_done(request, response)

        try:
            with translated_transfer_errors():
                around.connection.engine.run(
                    paced,
                    parallelism=around.tuning.parallelism,
                    retries=around.tuning.retries,
                    on_done=done,
                    on_bytes=on_bytes,
                    time_left=around.crew.check,
                )
        finally:
            around.permits.give_back(paced.running)

    def _count(self, size: int) -> None:
        self._counted += size
        self._around.counts.add(size=size)


class _Paced(Iterator[Request]):
    """Requests that start when there are permits for them. It can yield more after it has raised StopIteration.

    Attributes:
        running: How many have started and not ended.
    """

    def __init__(self, requests: Iterator[Request], permits: Permits) -> None:
        self.running = 0
        self._requests = requests
        self._permits = permits
        self._upcoming = next(requests, None)

    def __next__(self) -> Request:
        # The engine ends when nothing is running, so then a permit is waited for.
        if self._upcoming is None or not self._permits.take(wait=not self.running):
            raise StopIteration
        request, self._upcoming = self._upcoming, next(self._requests, None)
        self.running += 1
        return request

    def end(self) -> None:
        """Note that one has ended."""
        self.running -= 1
        self._permits.give_back()
