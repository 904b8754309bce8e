"""Which bytes of an archive hold which datapoints, and which byte ranges are worth fetching as one."""

from collections.abc import Iterable, Iterator

from datas3t.archive import index
from datas3t.archive.index import Buffer


def span(raw: Buffer, first_key: int, first: int, last: int) -> range:
    """The bytes of keys `first` to `last` with headers and padding; `first_key` is the archive's first key."""
    return range(
        index.entry_at(raw, first - first_key).position,
        index.entry_at(raw, last - first_key).stop,
    )


def merge(ranges: Iterable[range], gap: int, limit: int) -> Iterator[range]:
    """Joins ascending byte ranges that overlap, or lie no further than `gap` bytes apart, up to `limit` bytes each.

    A single range above the limit stays whole.
    """
    joined: range | None = None
    for each in ranges:
        if joined is None:
            joined = each
        elif each.start - joined.stop <= gap and max(each.stop, joined.stop) - joined.start <= limit:
            joined = range(joined.start, max(each.stop, joined.stop))
        else:
            yield joined
            joined = each
    if joined is not None:
        yield joined
