"""Makes the parts of an aggregate: S3 copies those that it can, and this process assembles the rest."""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from datas3t import v1
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers.filling import PartFiller
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.client._transfers.sources import Sources
from datas3t.client._transfers.task import Tuning
from datas3t.client.errors import Datas3tError, FileError
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, Request, Response, TransferError, bare_etag, s3_error_code

if TYPE_CHECKING:
    from datas3t.client._transfers.moved import Moved  # imports numpy

_COPY_STALL_TIMEOUT = 1800.0  # seconds without a byte; S3 may send nothing while it copies up to 4 GiB
_ETAG = re.compile(rb"<ETag>([^<]{1,256})</ETag>")


class PartBuilder:
    """Makes all missing parts of an aggregate.

    Attributes:
        bytes_copied: How many bytes S3 copied.
        bytes_moved: How many bytes this process fetched and sent.
    """

    def __init__(
        self,
        engine: Engine,
        aggregate: OpenAggregate,
        sources: Sources,
        moved: "Moved",
        tuning: Tuning,
        progress: Progress | None,
    ) -> None:
        self._engine = engine
        self._aggregate = aggregate
        self._sources = sources
        self._moved = moved
        self._tuning = tuning
        self._progress = progress
        self._etags: dict[int, str] = {}
        self.bytes_copied = self.bytes_moved = 0

    def build(self, uploaded: Sequence[v1.UploadedPart]) -> list[str]:
        """Make all parts, and return their ETags in order.

        Args:
            uploaded: The parts that S3 already has. Those of the right size are kept: sources never change.
        """
        copies, fills = self._missing({part.number: part for part in uploaded})
        fills |= self._copy(copies)
        self._fill(fills)
        return [self._etags[number] for number in range(1, self._aggregate.part_count + 1)]

    def _missing(self, uploaded: dict[int, v1.UploadedPart]) -> tuple[dict[int, int], dict[int, int]]:
        """Return the sizes of the missing parts, by number: those that S3 can copy, and those that it cannot."""
        copies, fills = dict[int, int](), dict[int, int]()
        reporter = Reporter(self._progress, "plan", self._aggregate.part_count)
        for number in range(1, self._aggregate.part_count + 1):
            part = self._aggregate.part(number)
            if number in uploaded and uploaded[number].size == part.size:
                self._etags[number] = uploaded[number].etag
            elif part.HasField("copy"):
                copies[number] = part.size
            else:
                fills[number] = part.size
            reporter.update(number)
        return copies, fills

    def _copy(self, sizes: dict[int, int]) -> dict[int, int]:
        """Have S3 copy these parts, and return the sizes of those that it refuses to copy."""
        if not sizes:
            return {}
        left = dict(sizes)
        reporter = Reporter(self._progress, "copy", sum(sizes.values()))

        def on_copied(number: int, response: Response) -> None:
            self._etags[number] = _etag(response)
            self.bytes_copied += left.pop(number)
            reporter.update(self.bytes_copied)

        # A refusal ends all requests in flight. These are repeated one by one to find out which parts are refused.
        refused = dict[int, int]()
        while suspects := self._copy_some(list(left), on_copied):
            refusals = [number for number in suspects if self._copy_some([number], on_copied)]
            refused |= {number: left.pop(number) for number in refusals}
            if len(refusals) == len(suspects):  # presumably S3 refuses all parts
                return refused | left
        return refused

    def _copy_some(self, numbers: Sequence[int], on_copied: Callable[[int, Response], None]) -> list[int]:
        """Have S3 copy these parts. If it refuses one, return those that were in flight; otherwise an empty list."""
        in_flight: dict[Request, int] = {}

        def requests() -> Iterator[Request]:
            for number in numbers:
                request = self._copy_request(number)
                in_flight[request] = number
                yield request

        with translated_transfer_errors():
            try:
                self._run(requests(), lambda request, response: on_copied(in_flight.pop(request), response))
            except TransferError as error:
                if not error.declined:
                    raise
        return list(in_flight.values())

    def _copy_request(self, number: int) -> Request:
        copy = self._aggregate.part(number).copy
        headers = {"x-amz-copy-source": copy.copy_source, "x-amz-copy-source-range": copy.copy_source_range}
        url = partial(self._aggregate.copy_url, number)
        return Request("PUT", url, headers=headers, check=_copy_error, stall_timeout=_COPY_STALL_TIMEOUT)

    def _fill(self, sizes: dict[int, int]) -> None:
        """Assemble and send these parts."""
        if not sizes:
            return
        reporter = Reporter(self._progress, "move", 2 * sum(sizes.values()))  # each byte is fetched and sent
        done = 0

        def on_bytes(size: int) -> None:
            nonlocal done
            done += size
            reporter.update(done)

        filler = PartFiller(self._aggregate, self._sources, sorted(sizes), self._etags, self._moved)
        with translated_transfer_errors(), _os_errors_as_file_error(), closing(filler):
            while not filler.done:
                self._run(filler.requests(), filler.record, on_bytes)
        self.bytes_moved = sum(sizes.values())
        reporter.done()

    def _run(
        self,
        requests: Iterable[Request],
        on_done: Callable[[Request, Response], None],
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        tuning = self._tuning
        self._engine.run(
            requests, parallelism=tuning.parallelism, retries=tuning.retries, on_done=on_done, on_bytes=on_bytes
        )


@contextmanager
def _os_errors_as_file_error() -> Iterator[None]:
    """Raise FileError in place of an OSError of a temporary file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Datas3tError):
            raise
        raise FileError(
            f"a temporary file cannot be written: {error.strerror}; "
            "free some space, or set TMPDIR to another folder, then run it again"
        ) from None


def _copy_error(response: Response) -> str | None:
    """Return the error in a response to a copy. S3 sends status 200 before it copies, and errors in the body."""
    return None if _ETAG.search(response.body) else s3_error_code(response.body) or "without an ETag"


def _etag(response: Response) -> str:
    match = _ETAG.search(response.body)
    assert match is not None
    return bare_etag(html.unescape(match[1].decode()))
