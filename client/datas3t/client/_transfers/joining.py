"""Makes the parts of a planned aggregate: S3 copies what it can, and the small rest goes through the client."""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from datas3t import v1
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._transfers.aggregate_sources import Sources
from datas3t.client._transfers.filling import Fillings
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.client._transfers.tuning import Tuning
from datas3t.client.errors import Datas3tError, FileError
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import Engine, Request, Response, TransferError, s3_error_code

_PATIENCE = 1800.0  # seconds: S3 may say nothing until 5 GiB are copied
_ETAG = re.compile(rb"<ETag>([^<]{1,256})</ETag>")


class Joining:
    """Makes all parts that are not there yet. `copied`, `moved`: bytes that S3 copied, and that went through here."""

    def __init__(
        self, engine: Engine, aggregate: OpenAggregate, sources: Sources, tuning: Tuning, progress: Progress | None
    ) -> None:
        self._engine = engine
        self._aggregate = aggregate
        self._sources = sources
        self._tuning = tuning
        self._progress = progress
        self._etags: dict[int, str] = {}
        self.copied = self.moved = 0

    def make(self, there: Sequence[v1.UploadedPart]) -> list[str]:
        """The parts' ETags, in order. Those `there` that have the right size are left alone: sources never change."""
        copies, fills = self._missing({part.number: part for part in there})
        fills |= self._copy(copies)
        self._move(fills)
        return [self._etags[number] for number in range(1, self._aggregate.part_count + 1)]

    def _missing(self, there: dict[int, v1.UploadedPart]) -> tuple[dict[int, int], dict[int, int]]:
        """The sizes of the parts, by number: those that S3 is to copy, and those that it cannot."""
        copies, fills = dict[int, int](), dict[int, int]()
        reporter = Reporter(self._progress, "plan", self._aggregate.part_count)
        for number in range(1, self._aggregate.part_count + 1):
            part = self._aggregate.part(number)
            if number in there and there[number].size == part.size:
                self._etags[number] = there[number].etag
            elif part.HasField("copy"):
                copies[number] = part.size
            else:
                fills[number] = part.size
            reporter.at(number)
        return copies, fills

    def _copy(self, sizes: dict[int, int]) -> dict[int, int]:
        """Has S3 copy these parts; answers those that it refuses to."""
        if not sizes:
            return {}
        left = dict(sizes)
        reporter = Reporter(self._progress, "copy", sum(sizes.values()))

        def note(number: int, response: Response) -> None:
            self._etags[number] = _etag(response)
            self.copied += left.pop(number)
            reporter.at(self.copied)

        refused = dict[int, int]()
        while suspects := self._copy_some(list(left), note):
            refusals = [number for number in suspects if self._copy_some([number], note)]
            refused |= {number: left.pop(number) for number in refusals}
            if len(refusals) == len(suspects):  # it copies nothing at all, it seems
                return refused | left
        return refused

    def _copy_some(self, numbers: Sequence[int], note: Callable[[int, Response], None]) -> list[int]:
        """Empty where S3 has copied all; else those that were under way when it refused one of them."""
        under_way: dict[Request, int] = {}

        def requests() -> Iterator[Request]:
            for number in numbers:
                request = self._copy_request(number)
                under_way[request] = number
                yield request

        with translated_transfer_errors():
            try:
                self._run(requests(), lambda request, response: note(under_way.pop(request), response))
            except TransferError as error:
                if not error.declined:
                    raise
        return list(under_way.values())

    def _copy_request(self, number: int) -> Request:
        copy = self._aggregate.part(number).copy
        headers = {"x-amz-copy-source": copy.copy_source, "x-amz-copy-source-range": copy.copy_source_range}
        url = partial(self._aggregate.copy_url, number)
        return Request("PUT", url, headers=headers, check=_not_copied, stall_timeout=_PATIENCE)

    def _move(self, sizes: dict[int, int]) -> None:
        """Puts these parts together here."""
        if not sizes:
            return
        reporter = Reporter(self._progress, "move", 2 * sum(sizes.values()))  # fetched, and sent
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            reporter.at(done)

        made = Fillings(self._aggregate, self._sources, sorted(sizes), self._etags)
        with translated_transfer_errors(), _out_of_room(), closing(made) as fillings:
            while not fillings.done:
                self._run(fillings.requests(), fillings.note, count)
        self.moved = sum(sizes.values())
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
def _out_of_room() -> Iterator[None]:
    """Temporary files are on a disk that may be full."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Datas3tError):
            raise
        why = f"a temporary file cannot be written: {error.strerror}"
        raise FileError(f"{why}; make room, or name another folder by TMPDIR, then run it again") from None


def _not_copied(response: Response) -> str | None:
    """S3 says 200 before it copies, and what went wrong in the body."""
    return None if _ETAG.search(response.body) else s3_error_code(response.body) or "without an ETag"


def _etag(response: Response) -> str:
    found = _ETAG.search(response.body)
    assert found is not None
    return html.unescape(found[1].decode()).strip('"')
