"""Which ranges of a datas3t can be aggregated: whole dataranges, two at least, without a gap between them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from datas3t import v1
from datas3t.archive import join
from datas3t.archive.index import RECORD_SIZE
from datas3t.archive.parts import MAX_OBJECT, MAX_PUT
from datas3t.server.db import dataranges
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pool import Connection
from datas3t.server.errors import Failure

Bounds = tuple[int, int]


def sources(conn: Connection, datas3t: Datas3t, first: int, last: int, *, planned: bool) -> list[Datarange]:
    """The dataranges from `first` to `last`, in key order. Raises AGGREGATE_RANGE_UNFIT, which names the nearest range
    that would do."""
    rows = dataranges.overlapping(conn, datas3t.id, first, last)
    wrong = misfit([(row.first_key, row.last_key) for row in rows], first, last)
    if wrong is not None:
        raise _unfit(datas3t.name, first, last, wrong, nearest(dataranges.bounds(conn, datas3t.id), first, last))
    if (wrong := _too_large(rows, planned)) is not None:
        count = _most_that_fit(rows, planned)
        raise _unfit(datas3t.name, first, last, wrong, (first, rows[count - 1].last_key) if count > 1 else None)
    return rows


def misfit(found: Sequence[Bounds], first: int, last: int) -> str | None:
    """Why these dataranges, all with a key from `first` to `last`, are not exactly that range; None where they are."""
    for start, stop in (*found[:1], *found[-1:]):
        if start < first or stop > last:
            return f"it cuts through the datarange from {start} to {stop}"
    if len(found) < 2:
        return f"it holds {'one' if found else 'no'} datarange, but two at least can become one"
    expected = first
    for start, stop in [*found, (last + 1, last)]:
        if start != expected:
            return f"there is no datapoint from {expected} to {start - 1}"
        expected = stop + 1
    return None


def nearest(bounds: Sequence[Bounds], first: int, last: int) -> Bounds | None:
    """Of all ranges that can be aggregated, the one whose ends lie nearest to these; None where there is none."""
    best: tuple[int, Bounds] | None = None
    for run in _runs(bounds):
        lasts = [stop for _, stop in run]
        for number, (start, _) in enumerate(run[:-1]):
            at = bisect_left(lasts, last, number + 1)
            for stop in lasts[max(at - 1, number + 1) : at + 1]:
                found = abs(start - first) + abs(stop - last), (start, stop)
                best = found if best is None else min(best, found)
    return best[1] if best else None


def _runs(bounds: Sequence[Bounds]) -> Iterator[Sequence[Bounds]]:
    """The longest pieces without a gap."""
    begin = 0
    for number, (one, following) in enumerate(pairwise(bounds), 1):
        if one[1] + 1 != following[0]:
            yield bounds[begin:number]
            begin = number
    yield bounds[begin:]


def _too_large(rows: Sequence[Datarange], planned: bool) -> str | None:
    sizes = [row.entries_size_bytes for row in rows]
    if (total := join.joined_size(sizes)) > MAX_OBJECT:
        return f"its archive would have {total} bytes, but S3 takes {MAX_OBJECT}"
    if (index := RECORD_SIZE * sum(row.count for row in rows)) > MAX_PUT:
        return f"its index would have {index} bytes, but S3 takes {MAX_PUT} in one piece"
    if planned:
        try:
            join.plan(sizes)
        except ValueError as error:
            return str(error)
    return None


def _most_that_fit(rows: Sequence[Datarange], planned: bool) -> int:
    """How many from the first on can become one."""
    fits, not_any_more = 1, len(rows)
    while fits + 1 < not_any_more:
        count = (fits + not_any_more) // 2
        if _too_large(rows[:count], planned):
            not_any_more = count
        else:
            fits = count
    return fits


def _unfit(name: str, first: int, last: int, wrong: str, better: Bounds | None) -> Failure:
    message = f"datapoints {first} to {last} of datas3t {name!r} cannot be aggregated: {wrong}"
    about: dict[str, object] = {"datas3t": name, "first": first, "last": last}
    if better is None:
        message += "; no other range can be either"
    else:
        message += f"; the nearest range that can is {better[0]} to {better[1]}"
        about.update(nearest_first=better[0], nearest_last=better[1])
    return Failure(v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT, message, **about)
