"""download_tar: the bytes of a span of datapoints, chunk by chunk to their place in a file that appears when whole."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from datas3t.client._calls import dataranges
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers import output as _output
from datas3t.client._transfers.resumable import says_how_to_go_on
from datas3t.client._transfers.tuning import Tuning
from datas3t.client._transfers.unfinished import Unfinished
from datas3t.client.errors import Aborted, InvalidArgument, NotFound, ObjectChanged
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, FileSink, Request

CHUNK_SIZE = 5 << 20  # bytes
_END_MARKER = 1024
_PHASES = ("download", "download again", "download once more")  # for as often as the dataranges may change meanwhile


@dataclass(frozen=True, slots=True)
class Downloaded:
    """An archive of `size` bytes that was written to `path`."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes `start` to `stop` of a segment's archive; they belong at `offset` of the output."""

    number: int
    segment: int
    start: int
    stop: int
    offset: int


class Plan:
    """Which bytes make up the download, and where each goes. Its URLs can be signed anew as long as the bytes stay."""

    def __init__(self, connection: Connection, name: str, first: int, last: int) -> None:
        self._about = (connection, name, first, last)
        self.segments, self._lifetime = dataranges.presign_download(*self._about)
        if not self.segments:
            raise NotFound(
                f"datas3t {name!r} has no datapoint from {first} to {last}; list its dataranges",
                reason="DATAPOINTS_NOT_FOUND",
                metadata={"datas3t": name, "first": str(first), "last": str(last)},
            )

    @property
    def size(self) -> int:
        """The size of the output, its end marker included, in bytes."""
        return sum(each.stop - each.start for each in self.segments) + _END_MARKER

    def sources(self) -> list[list[object]]:
        """The bytes without their signatures: the same for as long as the output would be the same."""
        return [[_object(each.url), each.etag, each.start, each.stop] for each in self.segments]

    def url(self, segment: int, refused: bool) -> str:
        """Return the URL of a segment, renewed if needed. `refused`: S3 has refused the one returned before.

        Raises PlanChanged.
        """
        if self._lifetime.is_over(refused):
            self.renew()
        return self.segments[segment].url

    def renew(self) -> None:
        """Signs the same bytes again. Raises PlanChanged where the server by now has others for these keys."""
        before = self.sources()
        self.segments, self._lifetime = dataranges.presign_download(*self._about)
        if self.sources() != before:
            raise PlanChanged

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The output in pieces of at most `size` bytes, none of which spans two archives."""
        number = offset = 0
        for segment, each in enumerate(self.segments):
            for start in range(each.start, each.stop, size):
                stop = min(start + size, each.stop)
                yield Chunk(number, segment, start, stop, offset)
                number += 1
                offset += stop - start


class PlanChanged(Exception):  # noqa: N818 - an event, not an error: the download is planned anew
    """The dataranges were aggregated, or deleted, under a download."""


def _object(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


def download_tar(
    connection: Connection,
    name: str,
    first: int,
    last: int,
    output: str | os.PathLike[str],
    *,
    tuning: Tuning,
    chunk_size: int,
    progress: Progress | None,
) -> Downloaded:
    """As Client.download_tar."""
    if chunk_size < 1:
        raise InvalidArgument(f"a chunk size of {chunk_size} bytes is not possible; it must be 1 or more")
    target = _output.target(output)
    with says_how_to_go_on(f"the download to {target}"):
        plan = Plan(connection, name, first, last)
        with closing(Unfinished(target)) as unfinished, _removed_where_hopeless(unfinished):
            for phase in _PHASES:
                with suppress(PlanChanged), _output.as_file_error(target):
                    _fetch(connection.engine, plan, unfinished, chunk_size, phase, tuning=tuning, progress=progress)
                    unfinished.publish()
                    return Downloaded(target, plan.size)
                plan = Plan(connection, name, first, last)
    raise Aborted(f"the dataranges of {name!r} kept changing under the download; run it again")


@contextmanager
def _removed_where_hopeless(unfinished: Unfinished) -> Iterator[None]:
    """Nothing is left behind that no later run could use."""
    try:
        yield
    except (NotFound, ObjectChanged):
        unfinished.remove()
        raise


def _fetch(
    engine: Engine,
    plan: Plan,
    unfinished: Unfinished,
    chunk_size: int,
    phase: str,
    *,
    tuning: Tuning,
    progress: Progress | None,
) -> None:
    """Gets the chunks that are not there yet."""
    there = unfinished.begin([chunk_size, *plan.sources()], plan.size)
    done = sum(chunk.stop - chunk.start for chunk in plan.chunks(chunk_size) if chunk.number in there)
    reporter = Reporter(progress, phase, plan.size - _END_MARKER, done)

    def count(size: int) -> None:
        nonlocal done
        done += size
        reporter.at(done)

    numbers: dict[Request, int] = {}
    try:
        with translated_transfer_errors():
            engine.run(
                _requests(plan, chunk_size, there, unfinished.fd, numbers),
                parallelism=tuning.parallelism,
                retries=tuning.retries,
                on_done=lambda request, _: unfinished.note(numbers.pop(request)),
                on_bytes=count,
            )
    except ObjectChanged:
        plan.renew()  # an aggregation, or a deletion, explains it
        raise
    reporter.done()


def _requests(plan: Plan, chunk_size: int, there: set[int], fd: int, numbers: dict[Request, int]) -> Iterator[Request]:
    """The chunks that are missing; they note their `numbers`."""
    for chunk in plan.chunks(chunk_size):
        if chunk.number not in there:
            etag = plan.segments[chunk.segment].etag
            url = partial(plan.url, chunk.segment)
            sink = FileSink(fd, chunk.offset)
            request = Request("GET", url, start=chunk.start, stop=chunk.stop, etag=etag, sink=sink)
            numbers[request] = chunk.number
            yield request
