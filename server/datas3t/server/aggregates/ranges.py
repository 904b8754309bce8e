"""Ranges that can be aggregated: two or more whole dataranges, without a gap between them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datas3t import v1
from datas3t.archive import join
from datas3t.archive.index import RECORD_SIZE
from datas3t.archive.parts import MAX_OBJECT, MAX_PUT
from datas3t.server.call import current
from datas3t.server.db import datarange_columns, dataranges, pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bounds = tuple[int, int]  # first and last key, both inclusive


def find_sources(
    resources: Resources, datas3t: Datas3t, first: int, last: int, *, planned: bool, equal_parts: bool = False
) -> list[Datarange]:
    """Return the dataranges from `first` to `last`, in key order. No transaction is open: they may be gone already.

    Raise AGGREGATE_RANGE_UNFIT, with the nearest range that can be aggregated, if this one cannot.
    """
    with pool.connection(resources.pool) as conn:
        rows = dataranges.overlapping(conn, datas3t.id, first, last)
    problem = find_problem([(row.first_key, row.last_key) for row in rows], first, last)
    if problem is not None:
        with datarange_columns.loaded(resources.pool, datas3t.id) as columns:
            better = nearest(columns.bounds, first, last)
        raise _unfit(datas3t.name, first, last, problem, better)
    if (problem := _too_large(rows, planned, equal_parts)) is not None:
        count = _largest_count(rows, planned, equal_parts)
        raise _unfit(datas3t.name, first, last, problem, (first, rows[count - 1].last_key) if count > 1 else None)
    return rows


def find_problem(bounds: Sequence[Bounds], first: int, last: int) -> str | None:
    """Return why the range from `first` to `last` cannot be aggregated; None if it can.

    `bounds` are those of all dataranges with a key in the range, in key order.
    """
    for start, stop in (*bounds[:1], *bounds[-1:]):
        if start < first or stop > last:
            return f"it cuts through the datarange from {start} to {stop}"
    if len(bounds) < 2:
        return f"it holds {'one datarange' if bounds else 'no datarange'}, but at least two are needed"
    expected = first
    for start, stop in [*bounds, (last + 1, last)]:
        if start != expected:
            return f"it has no datapoints from {expected} to {start - 1}"
        expected = stop + 1
    return None


def nearest(bounds: "Sequence[Bounds] | NDArray[np.int64]", first: int, last: int) -> Bounds | None:
    """Return the range that can be aggregated and whose ends are nearest to these; None if there is no such range.

    `bounds` are those of all dataranges, in key order, a row for each.
    """
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which a range without a problem does not need

    first_keys, last_keys = np.asarray(bounds, np.int64).reshape(-1, 2).T

    # A range begins with any datarange that another one follows without a gap, and has at most the rest of its run.
    joined = first_keys[1:] == last_keys[:-1] + 1
    begins = np.flatnonzero(joined)
    if not len(begins):
        return None
    run_ends = np.append(np.flatnonzero(~joined), len(joined))
    longest = run_ends[np.searchsorted(run_ends, begins)]

    # Of the last keys, only those just below and just above `last` can be nearest. Distances are below 2^64.
    at = np.searchsorted(last_keys, last)
    starts = np.concatenate([begins, begins])
    stops = np.concatenate([np.clip(at - 1, begins + 1, longest), np.clip(at, begins + 1, longest)])
    distances = _distances(first_keys[starts], first) + _distances(last_keys[stops], last)
    best = min(np.flatnonzero(distances == distances.min()), key=lambda each: (starts[each], stops[each]))
    return int(first_keys[starts[best]]), int(last_keys[stops[best]])


def _distances(keys: "NDArray[np.int64]", key: int) -> "NDArray[np.uint64]":
    import numpy as np  # noqa: PLC0415 - see `nearest`

    unsigned, other = keys.astype(np.uint64), np.uint64(key)
    return np.where(unsigned > other, unsigned - other, other - unsigned)


def _too_large(rows: Sequence[Datarange], planned: bool, equal_parts: bool) -> str | None:
    sizes = [row.entries_size_bytes for row in rows]
    if (total := join.joined_size(sizes)) > MAX_OBJECT:
        return f"its archive would have {total} bytes, but S3 accepts at most {MAX_OBJECT}"
    if (index_size := RECORD_SIZE * sum(row.count for row in rows)) > MAX_PUT:
        return f"its index would have {index_size} bytes, but S3 accepts at most {MAX_PUT} in one PUT"
    if planned:
        try:
            if equal_parts:
                join.equal_plan(sizes, join.equal_part_size(sizes))
            else:
                join.plan(sizes)
        except ValueError as error:
            return str(error)
    return None


def _largest_count(rows: Sequence[Datarange], planned: bool, equal_parts: bool) -> int:
    """Return how many of the rows, from the first on, can be aggregated; found by bisection."""
    fits, too_many = 1, len(rows)
    while fits + 1 < too_many:
        current().raise_if_ended()
        count = (fits + too_many) // 2
        if _too_large(rows[:count], planned, equal_parts):
            too_many = count
        else:
            fits = count
    return fits


def _unfit(name: str, first: int, last: int, problem: str, better: Bounds | None) -> Failure:
    message = f"datapoints {first} to {last} of datas3t {name!r} cannot be aggregated: {problem}"
    metadata: dict[str, object] = {"datas3t": name, "first": first, "last": last}
    if better is None:
        message += "; no other range of this datas3t can be aggregated either"
    else:
        message += f"; the nearest range that can be aggregated is {better[0]} to {better[1]}"
        metadata.update(nearest_first=better[0], nearest_last=better[1])
    return Failure(v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT, message, **metadata)
