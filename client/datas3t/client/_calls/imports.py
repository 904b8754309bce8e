"""Imports: what stands in a bucket becomes known to the server."""

from collections.abc import Callable
from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import patiently
from datas3t.client.progress import Progress

_AGAIN = 10.0  # seconds: a server that went away at once; later the import is the caller's to repeat


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that was left out of an import, and why, in words."""

    object_key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: the names of the datas3ts that were added or got dataranges, and what was left out."""

    datas3ts: list[str]
    skipped: list[Skipped]


def run(connection: Connection, bucket: str, *, progress: Progress | None = None) -> Imported:
    """As Client.import_datas3ts."""
    names: dict[str, None] = {}  # an attempt that broke off has imported what it told
    seen = _Seen(progress)

    def attempt() -> list[Skipped]:
        skipped: list[Skipped] = []
        for message in connection.imports.Import(v1.ImportRequest(bucket_name=bucket)):
            names.update(dict.fromkeys(message.imported_datas3ts))
            skipped += [Skipped(each.object_key, each.reason) for each in message.skipped]
            seen.at(message.objects_seen)
        return skipped

    skipped = patiently(attempt, _AGAIN)
    return Imported(sorted(names), skipped)


class _Seen:
    """How many objects were looked at: never less than before, also where an attempt begins anew."""

    def __init__(self, callback: Progress | None) -> None:
        self._callback: Callable[[str, int, int], object] = callback or (lambda _phase, _current, _total: None)
        self._most = -1

    def at(self, count: int) -> None:
        if count > self._most:
            self._most = count
            self._callback("import", count, 0)
