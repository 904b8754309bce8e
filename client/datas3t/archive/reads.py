"""Which byte ranges to read as one: arithmetic only, no I/O.

`merge` joins a few ranges; `plan` does the same for arrays of many datapoints.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reads:
    """Byte ranges to read, as arrays.

    Range n is bytes `starts[n]` up to `stops[n]` of archive `archives[n]`. It holds the datapoints from `bounds[n]` up
    to `bounds[n + 1]`, so `bounds` is longer by one than the other arrays.
    """

    archives: "Numbers"
    starts: "Numbers"
    stops: "Numbers"
    bounds: "Numbers"

    @property
    def size(self) -> int:
        """The number of bytes in all ranges."""
        return int((self.stops - self.starts).sum())

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self.starts)


def merge(ranges: Iterable[range], gap: int, limit: int) -> Iterator[range]:
    """Yield the byte ranges, with neighbours joined.

    Args:
        ranges: Byte ranges of one object in ascending order; they may overlap.
        gap: Ranges are joined if at most this many bytes lie between them.
        limit: The maximum size of a joined range. A single range may be larger; it is not split.
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


def plan(archives: "Numbers", starts: "Numbers", stops: "Numbers", gap: int, limit: int) -> Reads:
    """Return the ranges to read for many datapoints, with neighbours joined.

    Args:
        archives: The number of each datapoint's archive. Datapoints are sorted by archive and position.
        starts: The first byte of each datapoint in its archive.
        stops: The byte after the last one of each datapoint.
        gap: Datapoints of one archive are read together if at most this many bytes lie between them.
        limit: The maximum size of a range. A single datapoint may be larger; it gets its own range.
    """
    import numpy as np  # noqa: PLC0415 - 0.2 s, which users of merge() do not need

    if not len(starts):
        return Reads(archives, starts, stops, np.zeros(1, np.int64))

    # Runs of datapoints without a large gap: each run becomes a range, if it is within the limit.
    apart = (np.diff(archives) != 0) | (starts[1:] - stops[:-1] > gap)
    first = np.concatenate(([0], np.flatnonzero(apart) + 1))
    end = np.append(first[1:], len(starts))

    # Only runs above the limit are cut, one by one in Python: they are few.
    long = stops[end - 1] - starts[first] > limit
    if long.any():
        cuts = [_cuts(starts, stops, limit, *run) for run in zip(first[long], end[long], strict=True)]
        first = np.sort(np.concatenate((first, *cuts)))
        end = np.append(first[1:], len(starts))
    return Reads(archives[first], starts[first], stops[end - 1], np.append(first, len(starts)))


def _cuts(starts: "Numbers", stops: "Numbers", limit: int, first: "np.int64", end: "np.int64") -> "Numbers":
    """Return the datapoints at which to cut the run from `first` up to `end`, so that no piece exceeds the limit."""
    import numpy as np  # noqa: PLC0415 - see plan()

    cuts: list[int] = []
    at = int(first)
    while True:
        fit = int(np.searchsorted(stops[at:end], starts[at] + limit, side="right"))
        at += max(fit, 1)
        if at >= end:
            return np.array(cuts, np.int64)
        cuts.append(at)
