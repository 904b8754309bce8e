"""verify: read archives as a whole and compare them with everything that is known of them; add missing checksums."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from operator import index
from typing import IO, NamedTuple

from datas3t import v1
from datas3t.archive.checksums import RECORD_SIZE
from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._reading.listed import Listed, listed
from datas3t.client._reading.reader import Reader
from datas3t.client._transfers.task import Tuning
from datas3t.client.errors import Datas3tError, FileError, InvalidArgument
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import FileRange, Request

_MAX_BURST = 0.5  # seconds of unused rate that may be used later

# Another process adds or has added them, or the datarange was deleted or aggregated since.
_NOTHING_TO_ADD = frozenset(
    ("CHECKSUMS_EXIST", "CHECKSUMS_UNDER_WAY", "CHECKSUMS_CANCELLED", "DATARANGE_NOT_FOUND", "CHECKSUMS_COMPLETED")
)


@dataclass(frozen=True, slots=True)
class WrongDatarange:
    """A datarange that is not what it should be.

    Attributes:
        datas3t: The name of the datas3t.
        first: The first key.
        last: The last key.
        object_key: The object key of the archive.
        problem: What is wrong: the first problem that was found.
    """

    datas3t: str
    first: int
    last: int
    object_key: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification has found.

    Attributes:
        dataranges: How many dataranges were verified.
        datapoints: How many datapoints of the right ones were read.
        size: How many bytes of archives were read.
        without_checksums: How many of the dataranges have no checksums, also now.
        added: To how many of the dataranges checksums were added.
        wrong: The dataranges that are wrong.
    """

    dataranges: int
    datapoints: int
    size: int
    without_checksums: int
    added: int
    wrong: tuple[WrongDatarange, ...]


class Verification:
    """The part of the handle `Datas3t` that verifies."""

    _session: Session
    _name: str

    def verify(
        self,
        first: int | None = None,
        last: int | None = None,
        *,
        fraction: float = 1.0,
        max_rate: float | None = None,
        add: bool = False,
        on_wrong: Callable[[WrongDatarange], object] | None = None,
        progress: Progress | None = None,
    ) -> Verified:
        """Read archives as a whole, and compare them with everything that is known of them.

        Every header is compared with its key and its index record, every content with its checksum; padding and end
        markers must be zero. Nothing comes from a cache. What differs is fetched again before it counts as wrong.
        Memory: some 30 MB for archives of any size.

        Args:
            first: The first key; all from the lowest on if it is None. Dataranges are verified as a whole.
            last: The last key, inclusive; all up to the highest if it is None.
            fraction: The share of the archives that is read, in pieces of about 4 MB chosen at random. Of archives that
                are larger, the whole index is read.
            max_rate: The maximum number of bytes a second.
            add: Whether to make the checksums of dataranges that have none, and add them. What was uploaded without
                checksums cannot be compared: they are those of the contents as they are now.
            on_wrong: Called with each datarange that is wrong, as soon as it is known.
            progress: Is called with the phase "verify", in bytes.

        Returns:
            What was read and what is wrong. That dataranges are wrong is not an exception.

        Raises:
            InvalidArgument: `first` to `last` is not a range of keys, or another argument is out of its range.
            NotFound: The datas3t does not exist.
            TransferFailed: Bytes could not be fetched from S3, in spite of retries.
            Aborted: Dataranges were replaced faster than they could be read.
            FileError: A temporary file, for the checksums that are added, cannot be written.

        Example:
            >>> photos.verify(fraction=0.01).wrong
            ()
        """
        first, last = 0 if first is None else index(first), MAX_KEY if last is None else index(last)
        check_range(first, last)
        if not 0 < fraction <= 1:
            raise InvalidArgument(f"fraction is {fraction}; it must be above 0, and at most 1")
        if max_rate is not None and not max_rate > 0:
            raise InvalidArgument(f"max_rate is {max_rate}; it must be above 0")
        if add and fraction < 1:
            raise InvalidArgument("checksums are made of whole archives; leave out fraction, or do not add them")
        options = _Options(fraction, max_rate, add, on_wrong, progress)
        return _verify(self._session, self._name, first, last, options)


class _Options(NamedTuple):
    fraction: float
    max_rate: float | None
    add: bool
    on_wrong: Callable[[WrongDatarange], object] | None
    progress: Progress | None


def _verify(session: Session, name: str, first: int, last: int, options: _Options) -> Verified:
    fraction, max_rate, add, on_wrong, progress = options
    connection = session.connection
    # The total is only for the progress.
    sizes = (each.size for each in listed(connection, name, first, last)) if progress else ()
    reporter = Reporter(progress, "verify", int(sum(sizes) * fraction))
    pace, done = _Pace(max_rate), 0

    def on_bytes(size: int) -> None:
        nonlocal done
        done += size
        reporter.update(done)
        pace.spend(size)

    dataranges = datapoints = without = added = 0
    wrong: list[WrongDatarange] = []
    with ExitStack() as stack:
        addition = stack.enter_context(_Addition(connection, name)) if add else None
        collect = addition.collect if addition else None
        for verdict in Reader(session, name).verdicts(first, last, fraction, on_bytes, collect):
            datarange = verdict.datarange
            dataranges += 1
            datapoints += verdict.datapoints
            if verdict.problem:
                key = datarange.object_key("tar")
                wrong.append(WrongDatarange(name, datarange.first, datarange.last, key, verdict.problem))
                if on_wrong is not None:
                    on_wrong(wrong[-1])
            elif addition and not datarange.checksums_etag and addition.add(datarange):
                added += 1
                continue
            without += not datarange.checksums_etag
    reporter.done()
    return Verified(dataranges, datapoints, done, without, added, tuple(wrong))


class _Pace:
    """Keeps to a number of bytes a second, by waiting.

    Args:
        rate: The number; None for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = time.monotonic()  # when the next bytes may come

    def spend(self, size: int) -> None:
        """Wait until these bytes are due."""
        if self._rate is not None:
            now = time.monotonic()
            self._due = max(self._due, now - _MAX_BURST) + size / self._rate
            time.sleep(max(self._due - now, 0))


class _Addition:
    """Collects the checksums of one datarange at a time in a temporary file, and adds them to it."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._datarange_id = 0
        self._file: IO[bytes] = _temporary_file()

    def __enter__(self) -> "_Addition":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def collect(self, datarange: Listed, key: int, records: bytes) -> None:
        """Keep the checksums from a key on."""
        try:
            if self._datarange_id != datarange.id:
                self._datarange_id = datarange.id
                os.ftruncate(self._file.fileno(), 0)
            os.pwrite(self._file.fileno(), records, (key - datarange.first) * RECORD_SIZE)
        except OSError as error:
            raise _not_writable(error) from None

    def add(self, datarange: Listed) -> bool:
        """Add the checksums that were collected, and return whether that was still possible."""
        size = datarange.count * RECORD_SIZE
        assert self._datarange_id == datarange.id
        assert os.fstat(self._file.fileno()).st_size == size
        calls = self._connection.datarange
        try:
            started = calls.StartChecksums(v1.StartChecksumsRequest(datas3t_name=self._name, datarange_id=datarange.id))
            try:
                body = FileRange(self._file.fileno(), range(size))
                request = Request("PUT", started.presigned_checksums_put_url, body=body)
                with translated_transfer_errors():
                    self._connection.engine.run([request], parallelism=1, retries=Tuning().retries)
                completion = v1.CompleteChecksumsRequest(checksums_id=started.checksums_id)
                retry_while_unavailable(lambda: calls.CompleteChecksums(completion))
            except BaseException:
                with suppress(Datas3tError):
                    calls.CancelChecksums(v1.CancelChecksumsRequest(checksums_id=started.checksums_id))
                raise
        except Datas3tError as error:
            if error.reason not in _NOTHING_TO_ADD:
                raise
            return False
        return True


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="datas3t-")
    except OSError as error:
        raise _not_writable(error) from None


def _not_writable(error: OSError) -> FileError:
    return FileError(
        f"a temporary file cannot be written: {error.strerror}; free some space, or set TMPDIR to another folder"
    )
