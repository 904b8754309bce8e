"""Assembles parts of an aggregate that S3 cannot copy: fetches their pieces into a buffer, then sends it."""

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from typing import IO, TYPE_CHECKING

from datas3t import v1
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.client._transfers.sources import Sources
from datas3t.transport import Body, FileRange, FileSink, MemorySink, Request, Response, Sink

if TYPE_CHECKING:
    from datas3t.client._transfers.moved import Moved  # imports numpy

_MAX_IN_MEMORY = 64 << 20  # bytes; only parts that S3 refused to copy are larger, and go through a temporary file
_MAX_FETCH = 16 << 20  # bytes of one request


class PartFiller:
    """The requests that assemble and send parts.

    A part has a buffer from its first request until it is sent. Parts that are ready to be sent come before new ones,
    so there are never more buffers than requests in flight or waiting for a retry.

    Args:
        aggregate: The aggregate.
        sources: Where to fetch from.
        numbers: The parts.
        etags: Receives the ETag of each part that was sent.
        moved: Compares parts with the checksums of their contents before they are sent.
    """

    def __init__(
        self, aggregate: OpenAggregate, sources: Sources, numbers: Sequence[int], etags: dict[int, str], moved: "Moved"
    ) -> None:
        self._aggregate = aggregate
        self._sources = sources
        self._etags = etags
        self._moved = moved
        self._again: set[int] = set()  # parts that are made again when no request is under way: they may be sent now
        self._left = deque(numbers)
        self._fetches: dict[Request, _PartBuffer] = {}
        self._sends: dict[Request, _PartBuffer] = {}
        self._ready: deque[_PartBuffer] = deque()
        self._buffers = ExitStack()

    def close(self) -> None:
        """Remove temporary files, also of parts that were not sent."""
        self._buffers.close()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to request."""
        return not self._left and not self._ready and not self._again

    def requests(self) -> Iterator[Request]:
        """Yield all requests that can be made now.

        Parts whose last bytes arrive after this iterator has ended are ready then: call it again until `done`.
        """
        self._left.extend(sorted(self._again))
        self._again.clear()
        while self._left or self._ready:
            yield from self._send_requests()
            if self._left:
                buffer = self._new_buffer(self._aggregate.part(self._left.popleft()))
                if not buffer.missing:  # the part is only the end marker
                    self._ready.append(buffer)
                for piece, sink in buffer.pieces:
                    request = self._sources.fetch(piece, sink)
                    self._fetches[request] = buffer
                    yield request
                    yield from self._send_requests()

    def record(self, request: Request, response: Response) -> None:
        """Take note that one of the requests has succeeded."""
        if buffer := self._sends.pop(request, None):
            self._etags[buffer.number] = response.etag
            buffer.close()
            return
        buffer = self._fetches.pop(request)
        buffer.missing -= 1
        if not buffer.missing:
            self._again |= self._moved.suspects(buffer.number, buffer.places, buffer.read)
            if buffer.number in self._again:
                buffer.close()
            else:
                self._ready.append(buffer)

    def _new_buffer(self, part: v1.AggregatePart) -> "_PartBuffer":
        buffer = _PartBuffer(part)
        self._buffers.callback(buffer.close)
        return buffer

    def _send_requests(self) -> Iterator[Request]:
        while self._ready:
            buffer = self._ready.popleft()
            request = Request("PUT", partial(self._aggregate.part_url, buffer.number), body=buffer.body)
            self._sends[request] = buffer
            yield request


class _PartBuffer:
    """A part's bytes, in memory or in a temporary file. Bytes that no piece fills, such as the end marker, are zero.

    Attributes:
        number: The part's number.
        body: The bytes to send.
        pieces: The pieces to fetch, and where each goes.
        missing: How many of them were not fetched yet.
        places: The pieces as they were planned, and where each begins in the part.
    """

    def __init__(self, part: v1.AggregatePart) -> None:
        self.number = part.number
        self.body: Body | memoryview
        self._file: IO[bytes] | None = None
        if part.size > _MAX_IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
            self._file.truncate(part.size)
            self.body = FileRange(self._file.fileno(), range(part.size))
        else:
            self.body = memoryview(bytearray(part.size))
        self.pieces = [(piece, self._sink(offset)) for piece, offset in _split(part.pieces)]
        self.missing = len(self.pieces)
        starts = accumulate((piece.stop - piece.start for piece in part.pieces), initial=0)
        self.places = list(zip(part.pieces, starts, strict=False))

    def read(self, start: int, stop: int) -> memoryview:
        """Return bytes from `start` up to `stop`."""
        if self._file:
            return memoryview(os.pread(self._file.fileno(), stop - start, start))
        assert isinstance(self.body, memoryview)
        return self.body[start:stop]

    def close(self) -> None:
        """Free the buffer."""
        self.body = memoryview(b"")
        self.pieces = []
        if self._file:
            self._file.close()

    def _sink(self, offset: int) -> Sink:
        if self._file:
            return FileSink(self._file.fileno(), offset)
        assert isinstance(self.body, memoryview)
        return MemorySink(self.body[offset:])


def _split(pieces: Iterable[v1.AggregatePiece]) -> Iterator[tuple[v1.AggregatePiece, int]]:
    """Yield the pieces, split to the size of one request, and the offset of each within the part."""
    offset = 0
    for piece in pieces:
        for start in range(piece.start, piece.stop, _MAX_FETCH):
            stop = min(start + _MAX_FETCH, piece.stop)
            yield v1.AggregatePiece(datarange_id=piece.datarange_id, start=start, stop=stop), offset
            offset += stop - start
