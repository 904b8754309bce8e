"""Parts of an aggregate that the client puts together: fetched from their sources, then sent, one buffer for each."""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO

from datas3t import v1
from datas3t.client._transfers.aggregate_sources import Sources
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.transport import Body, FileRange, FileSink, MemorySink, Request, Response, Sink

_IN_MEMORY = 64 << 20  # bytes; larger parts, which S3 would not copy, go through a temporary file
_AT_ONCE = 16 << 20  # bytes that one request fetches, at most


class Fillings:
    """The requests that make these parts; their ETags go into `etags`.

    A part that is begun has a request under way, or is ready to be sent, which goes first. So there are never more
    buffers than requests that run or wait to be tried again.
    """

    def __init__(
        self, aggregate: OpenAggregate, sources: Sources, numbers: Sequence[int], etags: dict[int, str]
    ) -> None:
        self._aggregate = aggregate
        self._sources = sources
        self._etags = etags
        self._left = deque(numbers)
        self._fetched: dict[Request, _Filling] = {}
        self._sent: dict[Request, _Filling] = {}
        self._ready: deque[_Filling] = deque()
        self._files = ExitStack()

    def close(self) -> None:
        """Lets go of temporary files, also of parts that were never sent."""
        self._files.close()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to request."""
        return not self._left and not self._ready

    def requests(self) -> Iterator[Request]:
        """All that can be requested now. Parts whose last bytes come behind its end are for another round."""
        while not self.done:
            yield from self._sends()
            if self._left:
                filling = self._begun(self._aggregate.part(self._left.popleft()))
                if not filling.missing:  # the end marker alone
                    self._ready.append(filling)
                for piece, sink in filling.pieces:
                    request = self._sources.fetch(piece, sink)
                    self._fetched[request] = filling
                    yield request
                    yield from self._sends()

    def note(self, request: Request, response: Response) -> None:
        """The request is done."""
        if filling := self._sent.pop(request, None):
            self._etags[filling.number] = response.etag
            filling.close()
            return
        filling = self._fetched.pop(request)
        filling.missing -= 1
        if not filling.missing:
            self._ready.append(filling)

    def _begun(self, part: v1.AggregatePart) -> "_Filling":
        filling = _Filling(part)
        self._files.callback(filling.close)
        return filling

    def _sends(self) -> Iterator[Request]:
        while self._ready:
            filling = self._ready.popleft()
            request = Request("PUT", partial(self._aggregate.part_url, filling.number), body=filling.body)
            self._sent[request] = filling
            yield request


class _Filling:
    """A part's buffer: the `pieces` that it gets and where they go, of which so many are `missing`; zeros elsewhere."""

    def __init__(self, part: v1.AggregatePart) -> None:
        self.number = part.number
        self.body: Body | memoryview
        self._file: IO[bytes] | None = None
        if part.size > _IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` is for it
            self._file.truncate(part.size)
            self.body = FileRange(self._file.fileno(), range(part.size))
        else:
            self.body = memoryview(bytearray(part.size))
        self.pieces = [(piece, self._sink(at)) for piece, at in _split(part.pieces)]
        self.missing = len(self.pieces)

    def close(self) -> None:
        """Frees the buffer."""
        self.body = memoryview(b"")
        self.pieces = []
        if self._file:
            self._file.close()

    def _sink(self, at: int) -> Sink:
        if self._file:
            return FileSink(self._file.fileno(), at)
        assert isinstance(self.body, memoryview)
        return MemorySink(self.body[at:])


def _split(pieces: Iterable[v1.AggregatePiece]) -> Iterator[tuple[v1.AggregatePiece, int]]:
    """The pieces, none too large for one request, and where in the part they belong."""
    at = 0
    for piece in pieces:
        for start in range(piece.start, piece.stop, _AT_ONCE):
            stop = min(start + _AT_ONCE, piece.stop)
            yield v1.AggregatePiece(datarange_id=piece.datarange_id, start=start, stop=stop), at
            at += stop - start
