"""aggregate: many dataranges become one, most of it copied by S3 itself. Run again after a crash, it goes on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._transfers.aggregate_sources import SourceGone, Sources
from datas3t.client._transfers.joining import Joining
from datas3t.client._transfers.journal import Begun, Journal
from datas3t.client._transfers.open_aggregate import OpenAggregate
from datas3t.client._transfers.resumable import says_how_to_go_on
from datas3t.client._transfers.tuning import Tuning
from datas3t.client.errors import Aborted, Datas3tError, ObjectChanged, TransferRefused
from datas3t.client.progress import Progress, Reporter

# With these reasons the server says that an aggregate is over: there is nothing to go on with.
_OVER = frozenset(
    (
        "AGGREGATE_NOT_FOUND",
        "AGGREGATE_INVALID",
        "AGGREGATE_CANCELLED",
        "AGGREGATE_COMPLETED",
        "AGGREGATE_SOURCES_CHANGED",
    )
)


@dataclass(frozen=True, slots=True)
class Aggregated:
    """A datarange that took the place of others: keys `first` to `last` in an archive of `size` bytes.

    Of these S3 copied `bytes_copied` by itself, and `bytes_moved` went through this process; what an earlier run had
    done already counts for neither.
    """

    first: int
    last: int
    size: int
    bytes_copied: int
    bytes_moved: int

    @property
    def datapoints(self) -> int:
        """How many datapoints it holds."""
        return self.last - self.first + 1


def aggregate(
    connection: Connection,
    server: str,
    name: str,
    first: int,
    last: int,
    *,
    tuning: Tuning,
    progress: Progress | None,
) -> Aggregated:
    """As Client.aggregate; `server` is the URL that the journal goes by."""
    check_range(first, last)
    journal = Journal.of_aggregate(server, name, first, last)
    with says_how_to_go_on(f"the aggregation of datapoints {first} to {last} of {name!r}"):
        return _Task(connection, name, first, last, journal).run(tuning, progress)


class _Task:
    """One aggregate, with the journal that lets a later run take over."""

    def __init__(self, connection: Connection, name: str, first: int, last: int, journal: Journal) -> None:
        self._connection = connection
        self._name = name
        self._keys = first, last
        self._journal = journal

    def run(self, tuning: Tuning, progress: Progress | None) -> Aggregated:
        """Makes what S3 does not have yet, and completes. Raises what ended it; then nothing is left to go on with,
        unless it was cut off from outside."""
        begun = self._journal.read()
        if begun is None or not (done := self._completed_before(begun)):
            aggregate, there = (begun and self._open_still(begun)) or (self._started(), [])
            with self._cancelled_where_hopeless(aggregate):
                sources = self._sources()
                joining = Joining(self._connection.engine, aggregate, sources, tuning, progress)
                etags = joining.make(there)
            self._note(aggregate, etags)
            self._complete(aggregate, etags)
            done = Aggregated(*self._keys, sources.size, joining.copied, joining.moved)
        self._journal.forget()
        Reporter(progress, "complete", 1).done()
        return done

    def _started(self) -> OpenAggregate:
        aggregate = OpenAggregate.start(self._connection, self._name, *self._keys)
        self._note(aggregate)
        return aggregate

    def _note(self, aggregate: OpenAggregate, etags: Sequence[str] | None = None) -> None:
        self._journal.write(Begun(aggregate.id, etags is not None, tuple(etags or ())))

    def _sources(self) -> Sources:
        return Sources(self._connection, self._name, *self._keys)

    def _open_still(self, begun: Begun) -> tuple[OpenAggregate, list[v1.UploadedPart]] | None:
        """What an earlier run began, if the server still has it open, and the parts that are there."""
        try:
            return OpenAggregate.again(self._connection, begun.upload_id)
        except Datas3tError as error:
            if error.reason not in _OVER:
                raise
            return None

    def _completed_before(self, begun: Begun) -> Aggregated | None:
        """The result, where an earlier run made everything, and it is, or now becomes, complete.

        Complete means that the datarange is there: others may have taken its place since.
        """
        if not begun.sent:
            return None
        try:
            self._complete(OpenAggregate(self._connection, begun.upload_id), begun.etags)
        except Datas3tError as error:
            if error.reason not in _OVER:
                raise
            return None
        sources = self._sources()
        return Aggregated(*self._keys, sources.size, 0, 0) if sources.joined else None

    def _complete(self, aggregate: OpenAggregate, etags: Sequence[str]) -> None:
        try:
            retry_while_unavailable(lambda: aggregate.complete(etags))
        except Datas3tError as error:
            if error.reason in _OVER:
                self._journal.forget()
            raise

    @contextmanager
    def _cancelled_where_hopeless(self, aggregate: OpenAggregate) -> Iterator[None]:
        """Trying it again would not help: the server need not keep what was made. It knows best what is wrong."""
        try:
            with self._explained_by_the_server(aggregate):
                yield
        except (TransferRefused, ObjectChanged, Aborted):
            with suppress(Datas3tError):
                aggregate.cancel()
            self._journal.forget()
            raise

    @contextmanager
    def _explained_by_the_server(self, aggregate: OpenAggregate) -> Iterator[None]:
        try:
            yield
        except (TransferRefused, ObjectChanged, SourceGone) as error:
            aggregate.check_open()
            if isinstance(error, SourceGone):
                raise Aborted("a source was deleted or aggregated meanwhile; start anew") from None
            raise
