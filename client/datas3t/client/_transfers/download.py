"""download_tar: fetch the bytes of a range of datapoints, in chunks, into a file that appears when it is complete."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from datas3t.archive.index import END_SIZE
from datas3t.client._calls import dataranges
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._calls.session import Session
from datas3t.client._reading.reader import Reader
from datas3t.client._transfers import output_file
from datas3t.client._transfers.task import Tuning, resumable
from datas3t.client._transfers.unfinished import UnfinishedDownload
from datas3t.client.errors import Aborted, ArchiveError, ChecksumMismatch, InvalidArgument, NotFound, ObjectChanged
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, FileSink, Request

CHUNK_SIZE = 5 << 20  # bytes that one request fetches, unless the caller says otherwise

# One attempt for each: dataranges may be aggregated or deleted during a download, and it then starts over. Each has its
# own name for progress callbacks, because progress must not go backwards within a phase.
_PHASES = ("download", "download again", "download once more")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """An archive that was downloaded.

    Attributes:
        path: The file's absolute path.
        size: Its size, in bytes.
    """

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the output that one request fetches.

    Attributes:
        number: The chunk's number, from 0.
        segment: The number of the segment that it is part of.
        start: Its first byte in the segment's archive.
        stop: The byte after its last one there.
        offset: Its position in the output.
    """

    number: int
    segment: int
    start: int
    stop: int
    offset: int


class PlanChanged(Exception):  # noqa: N818 - an event, not an error: the download starts over
    """The dataranges were aggregated or deleted during a download."""


class Plan:
    """The segments that make up a download, with URLs that are renewed as long as the segments stay the same."""

    def __init__(self, connection: Connection, name: str, first: int, last: int) -> None:
        self._query = (connection, name, first, last)
        self.segments, self._lifetime = dataranges.presign_download(*self._query)
        if not self.segments:
            raise NotFound(
                f"datas3t {name!r} has no datapoint from {first} to {last}; list its dataranges",
                reason="DATAPOINTS_NOT_FOUND",
                metadata={"datas3t": name, "first": str(first), "last": str(last)},
            )

    @property
    def size(self) -> int:
        """The size of the output with its end marker, in bytes."""
        return sum(each.stop - each.start for each in self.segments) + END_SIZE

    def sources(self) -> list[list[object]]:
        """Return what identifies the bytes of the output: the segments without the signatures in their URLs."""
        return [[_object(each.url), each.etag, each.start, each.stop] for each in self.segments]

    def url(self, segment: int, refused: bool) -> str:
        """Return the URL of a segment. `refused`: S3 has refused the one returned before.

        Raises:
            PlanChanged: The URL had to be renewed, and the segments have changed.
        """
        if self._lifetime.is_over(refused):
            self.renew()
        return self.segments[segment].url

    def renew(self) -> None:
        """Presign the segments again. Raise PlanChanged if the server now has others for these keys."""
        before = self.sources()
        self.segments, self._lifetime = dataranges.presign_download(*self._query)
        if self.sources() != before:
            raise PlanChanged

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield the output in chunks of at most `size` bytes, each within one segment."""
        number = offset = 0
        for segment, each in enumerate(self.segments):
            for start in range(each.start, each.stop, size):
                stop = min(start + size, each.stop)
                yield Chunk(number, segment, start, stop, offset)
                number += 1
                offset += stop - start


def _object(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


def download_tar(
    session: Session,
    name: str,
    first: int,
    last: int,
    output: str | os.PathLike[str],
    *,
    tuning: Tuning,
    chunk_size: int,
    progress: Progress | None,
) -> Downloaded:
    """Download datapoints as a TAR archive; see `Datas3t.download_tar`."""
    if chunk_size < 1:
        raise InvalidArgument(f"chunk_size is {chunk_size}; it must be 1 byte or more")
    path = output_file.resolve(output)
    connection = session.connection
    with resumable(f"the download to {path}"):
        # The plan comes first: without datapoints to download, no file should appear.
        plan = Plan(connection, name, first, last)
        with closing(UnfinishedDownload(path)) as unfinished, _removed_on_final_error(unfinished):
            for phase in _PHASES:
                with suppress(PlanChanged), output_file.os_errors_as_file_error(path):
                    _fetch(connection.engine, plan, unfinished, chunk_size, phase, tuning=tuning, progress=progress)
                    _check(Reader(session, name), first, last, plan, unfinished)
                    unfinished.publish()
                    return Downloaded(path, plan.size)
                plan = Plan(connection, name, first, last)
    raise Aborted(f"the dataranges of {name!r} changed several times during the download; run it again")


@contextmanager
def _removed_on_final_error(unfinished: UnfinishedDownload) -> Iterator[None]:
    """Remove the unfinished file after an error that a second run would only repeat."""
    try:
        yield
    except (NotFound, ObjectChanged, ArchiveError, ChecksumMismatch):
        unfinished.remove()
        raise


def _fetch(
    engine: Engine,
    plan: Plan,
    unfinished: UnfinishedDownload,
    chunk_size: int,
    phase: str,
    *,
    tuning: Tuning,
    progress: Progress | None,
) -> None:
    """Fetch the chunks that are missing in the unfinished file."""
    finished = unfinished.begin([chunk_size, *plan.sources()], plan.size)
    done = sum(chunk.stop - chunk.start for chunk in plan.chunks(chunk_size) if chunk.number in finished)
    reporter = Reporter(progress, phase, plan.size - END_SIZE, done)

    def on_bytes(size: int) -> None:
        nonlocal done
        done += size
        reporter.update(done)

    numbers: dict[Request, int] = {}
    try:
        with translated_transfer_errors():
            engine.run(
                _requests(plan, chunk_size, finished, unfinished.fd, numbers),
                parallelism=tuning.parallelism,
                retries=tuning.retries,
                on_done=lambda request, _: unfinished.mark_finished(numbers.pop(request)),
                on_bytes=on_bytes,
            )
    except ObjectChanged:
        # An aggregation or a deletion also removes objects. Then the plan has changed, and the download starts over.
        plan.renew()
        raise
    reporter.done()


def _check(reader: Reader, first: int, last: int, plan: Plan, unfinished: UnfinishedDownload) -> None:
    """Check every header of the archive against its key and the index, and every content, as all readers do.

    Raises:
        ArchiveError: A header is damaged, or contradicts the index.
        ChecksumMismatch: A content differs from its checksum, also when both are fetched again.
        PlanChanged: Dataranges were replaced, so these bytes cannot be compared any more.
    """
    try:
        size = reader.check_file(unfinished.fd, first, last)
        if size + END_SIZE != plan.size:
            raise ArchiveError(f"the entries have {plan.size - END_SIZE} bytes, but {size} according to the indices")
    except ChecksumMismatch:
        plan.renew()
        raise
    except ArchiveError as error:
        plan.renew()
        raise ArchiveError(f"{error}; delete the datarange and upload it again") from None


def _requests(
    plan: Plan, chunk_size: int, finished: set[int], fd: int, numbers: dict[Request, int]
) -> Iterator[Request]:
    """Yield the requests for the missing chunks, and note the chunk of each."""
    for chunk in plan.chunks(chunk_size):
        if chunk.number not in finished:
            etag = plan.segments[chunk.segment].etag
            url = partial(plan.url, chunk.segment)
            sink = FileSink(fd, chunk.offset)
            request = Request("GET", url, start=chunk.start, stop=chunk.stop, etag=etag, sink=sink)
            numbers[request] = chunk.number
            yield request
