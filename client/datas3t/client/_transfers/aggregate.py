"""aggregate: merge many dataranges into one, mostly by having S3 copy their bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.session import Session
from datas3t.client._reading.reader import Reader
from datas3t.client._transfers.joining import PartBuilder
from datas3t.client._transfers.journal import Journal
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.client._transfers.sources import SourceMissing, Sources
from datas3t.client._transfers.task import Task, Tuning, resumable
from datas3t.client.errors import Aborted, ArchiveError, ChecksumMismatch, ObjectChanged, TransferRefused
from datas3t.client.progress import Progress, Reporter


@dataclass(frozen=True, slots=True)
class Aggregated:
    """A datarange that replaced others.

    Attributes:
        first: The first key.
        last: The last key.
        size: The size of the archive, in bytes.
        bytes_copied: How many bytes S3 copied.
        bytes_moved: How many bytes this process fetched and sent. What an earlier run did counts for neither.
    """

    first: int
    last: int
    size: int
    bytes_copied: int
    bytes_moved: int

    @property
    def datapoints(self) -> int:
        """The number of its datapoints."""
        return self.last - self.first + 1


def aggregate(
    session: Session, name: str, first: int, last: int, tuning: Tuning, progress: Progress | None
) -> Aggregated:
    """Merge the dataranges from key `first` to key `last`; see `Datas3t.aggregate`."""
    check_range(first, last)
    task = _AggregateTask(session, name, first, last, tuning, progress)
    with resumable(f"the aggregation of datapoints {first} to {last} of {name!r}"):
        try:
            return task.run(progress)
        except Aborted as error:
            if error.reason != "AGGREGATE_NEEDS_EQUAL_PARTS":
                raise
            return task.run(progress)  # the server has learnt it by now, and plans such parts


class _AggregateTask(Task[OpenAggregate, Aggregated]):
    closed_reasons = frozenset(
        (
            "AGGREGATE_NOT_FOUND",
            "AGGREGATE_INVALID",
            "AGGREGATE_CANCELLED",
            "AGGREGATE_COMPLETED",
            "AGGREGATE_SOURCES_CHANGED",
            "AGGREGATE_NEEDS_EQUAL_PARTS",
        )
    )
    restart_reasons = closed_reasons
    final_errors = (TransferRefused, ObjectChanged, ArchiveError, ChecksumMismatch, Aborted)

    def __init__(
        self, session: Session, name: str, first: int, last: int, tuning: Tuning, progress: Progress | None
    ) -> None:
        super().__init__(Journal.of_aggregate(session.url, name, first, last))
        self._session = session
        self._connection = session.connection
        self._name = name
        self._keys = first, last
        self._tuning = tuning
        self._progress = progress

    def start(self) -> OpenAggregate:
        return OpenAggregate.start(self._connection, self._name, *self._keys)

    def reopen(self, upload_id: int) -> OpenAggregate:
        return OpenAggregate(self._connection, upload_id)

    def transfer(self, opened: OpenAggregate, uploaded: Sequence[v1.UploadedPart]) -> tuple[list[str], Aggregated]:
        with self._failure_explained(opened):
            sources = self._sources()
            if not uploaded:  # otherwise an earlier run has done it
                self._check_headers(sources)
            from datas3t.client._transfers.moved import Moved  # noqa: PLC0415 - imports numpy

            moved = Moved(self._session, self._name, sources)
            builder = PartBuilder(self._connection.engine, opened, sources, moved, self._tuning, self._progress)
            etags = builder.build(uploaded)
        return etags, Aggregated(*self._keys, sources.size, builder.bytes_copied, builder.bytes_moved)

    def _check_headers(self, sources: Sources) -> None:
        """Check every header of the sources, because S3 copies most of them unseen. Raise ArchiveError."""
        reporter = Reporter(self._progress, "check", sources.datapoints)
        checked = 0

        def on_checked(count: int) -> None:
            nonlocal checked
            checked += count
            reporter.update(min(checked, sources.datapoints))

        try:
            Reader(self._session, self._name).check_stored(*self._keys, self._tuning.parallelism, on_checked)
        except ArchiveError as error:
            raise ArchiveError(f"{error}; delete the datarange and upload it again") from None
        reporter.done()

    def committed(self) -> Aggregated | None:
        sources = self._sources()
        return Aggregated(*self._keys, sources.size, 0, 0) if sources.is_merged else None

    def _sources(self) -> Sources:
        return Sources(self._connection, self._name, *self._keys)

    @contextmanager
    def _failure_explained(self, opened: OpenAggregate) -> Iterator[None]:
        """Raise the server's error if a transfer failed because the aggregate was ended, as by a deletion."""
        try:
            yield
        except (TransferRefused, ObjectChanged, SourceMissing) as error:
            opened.check_open()
            if isinstance(error, SourceMissing):
                raise Aborted("a source was deleted or aggregated concurrently; aggregate again") from None
            raise
