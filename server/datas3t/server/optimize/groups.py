"""Groups of neighbouring archives that could be merged, found in columns: a million archives take seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datas3t.archive.index import END_SIZE
from datas3t.server.call import current
from datas3t.server.db.datarange_columns import Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

MAX_SOURCES = 5_000  # of one aggregate, which may need two parts for each; S3 accepts 10,000 parts

TIER = 4  # the archives of a tier are up to this many times smaller than those of the next
_STEPS = 1 << 16  # groups that are made before the call is asked whether its client still waits


@dataclass(frozen=True, slots=True)
class Limits:
    """Archives below `target_size` are merged until they reach it, and into none above `max_size`. Both in bytes."""

    target_size: int
    max_size: int


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups that do not overlap, in key order: rows `begins` up to `stops` each. A group is `full` if no row fits."""

    begins: "Numbers"
    stops: "Numbers"
    full: "NDArray[np.bool_]"


@dataclass(frozen=True, slots=True)
class Runs:
    """Neighbours without a gap that are all smaller than a limit: where the run of each row begins and stops.

    A row that is not smaller has a run of its own, which is empty.
    """

    begins: "Numbers"
    stops: "Numbers"


def tiers(columns: Columns, limits: Limits) -> Iterator[Groups]:
    """Yield the groups of each tier: of archives smaller than the target, than a quarter of it, and so on.

    A tier leaves out the runs that the tier before has as well.
    """
    limit = limits.target_size
    smallest = int(columns.sizes.min()) if len(columns.sizes) else limit
    previous = None
    while True:
        current().raise_if_ended()
        runs = runs_below(columns, limit)
        yield cut(columns, runs, limits, unlike=previous)
        if limit <= smallest:
            return
        previous = runs
        limit //= TIER


def runs_below(columns: Columns, limit: int) -> Runs:
    """Return the runs of archives that are smaller than `limit` bytes."""
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which other calls do not need

    small = columns.sizes < limit
    numbers = np.arange(len(small), dtype=np.int64)
    joined = small[1:] & small[:-1] & (columns.bounds[1:, 0] == columns.bounds[:-1, 1] + 1)
    edges = np.flatnonzero(~joined) + 1  # a run begins at each of these rows, and at the first one
    begins = np.concatenate([[0], edges])[: len(small)]
    lengths = np.diff(np.append(begins, len(small)))
    run_begins = np.repeat(begins, lengths)
    run_stops = np.repeat(begins + lengths, lengths)
    return Runs(run_begins, np.where(small, run_stops, numbers))


def cut(columns: Columns, runs: Runs, limits: Limits, *, unlike: Runs | None = None) -> Groups:
    """Cut runs into groups that have reached the target size, or would exceed a limit with one row more.

    Runs that are among those of `unlike` are left out.
    """
    import numpy as np  # noqa: PLC0415 - see `runs_below`

    numbers = np.arange(len(runs.begins), dtype=np.int64)
    is_begin = (runs.begins == numbers) & (runs.stops - numbers > 1)
    if unlike is not None:
        is_begin &= (unlike.begins != numbers) | (unlike.stops != runs.stops)
    run_begins = np.flatnonzero(is_begin)
    if not len(run_begins):
        return Groups(run_begins, run_begins, np.zeros(0, np.bool_))

    # Where a group stops that begins at a row: after the row that reaches the target, or before one that is too much.
    ends = np.concatenate([[0], np.cumsum(np.where(runs.stops > numbers, columns.entries_sizes, 0))])
    before = ends[:-1] - END_SIZE
    reaches = np.searchsorted(ends, before + limits.target_size, side="left")
    fits = np.searchsorted(ends, before + limits.max_size, side="right") - 1
    stops = np.maximum(np.minimum(np.minimum(reaches, fits), numbers + MAX_SOURCES), numbers + 1)
    stops = np.minimum(stops, runs.stops)
    full = (stops == reaches) | (stops < runs.stops)

    # Most runs are one group. The others are cut from the front.
    whole = stops[run_begins] == runs.stops[run_begins]
    begins = [run_begins[whole], np.fromiter(_first_rows(stops, runs, run_begins[~whole]), np.int64)]
    all_begins = np.sort(np.concatenate(begins))
    all_begins = all_begins[stops[all_begins] - all_begins > 1]
    return Groups(all_begins, stops[all_begins], full[all_begins])


def _first_rows(stops: "Numbers", runs: Runs, run_begins: "Numbers") -> Iterator[int]:
    """Yield the first row of each group in these runs."""
    next_rows, steps = stops.tolist(), 0
    for begin, stop in zip(run_begins.tolist(), runs.stops[run_begins].tolist(), strict=True):
        at = begin
        while at < stop:
            yield at
            at = next_rows[at]
            steps += 1
            if steps % _STEPS == 0:
                current().raise_if_ended()
