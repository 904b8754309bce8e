"""The call that imports what a bucket holds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from datas3t import v1
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client.progress import Progress

_RETRY_SECONDS = 10.0  # covers a server that fails at once; after a longer import the caller decides about a retry


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that an import left out.

    Attributes:
        object_key: The object's key.
        reason: Why it was left out, in words.
    """

    object_key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        datas3ts: The names of the datas3ts that were added or that gained dataranges, sorted.
        skipped: The objects that were left out.
        tables: The tables that gained files, as "datas3t/table", sorted.
    """

    datas3ts: list[str]
    skipped: list[Skipped]
    tables: list[str] = field(default_factory=list)


def run(connection: Connection, bucket: str, *, progress: Progress | None = None) -> Imported:
    """Import what the bucket holds; see `Client.import_datas3ts`."""
    check_text(bucket=bucket)
    # An attempt that failed half-way has imported the datas3ts that it reported, so names are kept across attempts.
    # A later attempt reports all skipped objects again.
    names, tables = set[str](), set[str]()
    reporter = _CountReporter(progress)

    def attempt() -> list[Skipped]:
        skipped: list[Skipped] = []
        for message in connection.imports.Import(v1.ImportRequest(bucket_name=bucket)):
            names.update(message.imported_datas3ts)
            tables.update(message.imported_tables)
            skipped += [Skipped(each.object_key, each.reason) for each in message.skipped]
            reporter.report(message.objects_seen)
        return skipped

    skipped = retry_while_unavailable(attempt, _RETRY_SECONDS)
    return Imported(sorted(names), skipped, sorted(tables))


class _CountReporter:
    """Report how many objects were checked; a new attempt, which counts from 0, never reports less than before."""

    def __init__(self, callback: Progress | None) -> None:
        self._callback: Callable[[str, int, int], object] = callback or (lambda _phase, _current, _total: None)
        self._highest = -1

    def report(self, count: int) -> None:
        if count > self._highest:
            self._highest = count
            self._callback("import", count, 0)
