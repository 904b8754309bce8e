"""Requests to S3 through the engine of `datas3t.transport`, for frequent requests and for responses of bounded size.

They are signed by `presign`, cost a tenth of what boto3's cost, end with the call that made them, and do not
follow redirects.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import IO, Literal, NamedTuple, TypeVar

from datas3t.server.call import current
from datas3t.server.s3.counts import COUNTS
from datas3t.server.s3.gate import GATE
from datas3t.server.s3.locations import Location
from datas3t.server.s3.presign import presign
from datas3t.transport import Body, Engine, MemorySink, Request, Response, TransferError

_LIFETIME = timedelta(minutes=15)  # of a signature, which is used at once
_RETRIES = 2
_ATTEMPT_SECONDS = 30.0
_SLOWEST = 1 << 20  # bytes per second; larger bodies have this much more time
_CONNECT_SECONDS = 5.0
_SMALL = 256 << 10  # bytes; larger bodies are received in place, because joining pieces needs twice their size
_MANY = 32  # requests at a time of `each`: enough for a store that is a few milliseconds away
_BUFFER_SIZE = 128 << 10  # bytes: many calls run at a time, and most of them move little

Method = Literal["GET", "HEAD", "PUT", "DELETE"]
OnDone = Callable[[Request, Response], None]
T = TypeVar("T")


class Piece(NamedTuple):
    """Bytes `start` up to `stop` of the object with this key and ETag."""

    key: str
    start: int
    stop: int
    etag: str


_engine = Engine(connect_timeout=_CONNECT_SECONDS, link_local=False, buffer_size=_BUFFER_SIZE)


class Wire:
    """Requests for the objects of one bucket."""

    def __init__(self, location: Location, *, retries: int = _RETRIES, seconds: float = _ATTEMPT_SECONDS) -> None:
        self._location = location
        self._retries = retries
        self._seconds = seconds

    def send(
        self,
        operation: str,
        method: Method,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        start: int = 0,
        stop: int | None = None,
        etag: str | None = None,
        body: Body | bytes | None = None,
        limit: int | None = None,
    ) -> Response:
        """Send a request, and return its response if it succeeded.

        Args:
            operation: S3's name of the operation, for the metrics.
            method: The method.
            key: The object key; "" for the bucket itself.
            query: Further parameters of the URL.
            start: GET: the first byte.
            stop: GET: the byte after the last one; None for all bytes.
            etag: GET: the ETag that the object must have.
            body: PUT: the bytes.
            limit: GET without a `stop`: the maximum size of the response, in bytes.

        Raises:
            TransferError: The request failed.
            Failure: The call of the client has ended, or too many calls wait for this bucket.
        """
        size = (body.size if not isinstance(body, bytes) else len(body)) if body is not None else (stop or 0) - start
        url = presign(self._location, method, key, _LIFETIME, query=query)
        request = Request(
            method, url, start, stop, etag, body=body, limit=limit, timeout=self._seconds + max(size, 0) / _SLOWEST
        )
        if method == "GET" and size > _SMALL:
            return self._filled(operation, request, size)
        return self._run(operation, request)

    def _filled(self, operation: str, request: Request, size: int) -> Response:
        """Return the response to a GET of a large range, whose body is received into its final place in memory."""
        whole = io.BytesIO()
        whole.seek(size - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            request.sink = MemorySink(view)
            response = self._run(operation, request)
        response.body = whole.getvalue()
        return response

    def each(self, operation: str, wanted: Iterable[tuple[T, Piece]], on_body: Callable[[T, bytes], None]) -> None:
        """Read small pieces of objects, many at a time. `on_body` is called with what identifies each, and its bytes.

        Raises as `send` does; what was not passed to `on_body` by then is given up.
        """
        under_way: dict[Request, T] = {}

        def requests() -> Iterator[Request]:
            for each, piece in wanted:
                url = presign(self._location, "GET", piece.key, _LIFETIME)
                request = Request("GET", url, piece.start, piece.stop, piece.etag, timeout=self._seconds)
                under_way[request] = each
                yield request

        def on_done(request: Request, response: Response) -> None:
            COUNTS.add(operation, str(response.status))
            on_body(under_way.pop(request), response.body)

        self._engine_run(operation, requests(), _MANY, on_done)

    def _run(self, operation: str, request: Request) -> Response:
        """Send a request within the time limit of the current call, and count it."""
        responses = list[Response]()
        self._engine_run(operation, [request], 1, lambda _, response: responses.append(response))
        COUNTS.add(operation, str(responses[0].status))
        return responses[0]

    def _engine_run(self, operation: str, requests: Iterable[Request], parallelism: int, on_done: OnDone) -> None:
        call = current()

        def time_left() -> float | None:
            call.raise_if_ended()
            return call.remaining()

        with GATE.admitted(self._location):
            try:
                _engine.run(
                    requests, parallelism=parallelism, retries=self._retries, on_done=on_done, time_left=time_left
                )
            except TransferError as error:
                COUNTS.add(operation, error.code or str(error.status or "unreachable"))
                call.raise_if_ended()
                raise


class FileBody:
    """The whole of a file as the body of a PUT. It may be a spooled one, which has no descriptor."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, start: int, stop: int, /) -> bytes:
        """Return bytes `start` to `stop`."""
        self._file.seek(start)
        return self._file.read(stop - start)
