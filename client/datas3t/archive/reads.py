"""Which byte ranges to read for many datapoints: pure arithmetic on arrays, no I/O.

Datapoints come sorted by archive and place. Those of one archive are read as one range while no more than `gap` bytes
lie between two of them, and as long as the range stays within `limit` bytes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reads:
    """Ranges to read: range n has bytes `starts[n]` up to `stops[n]` of archive `archives[n]`, and in it lie the
    datapoints from `bounds[n]` up to `bounds[n + 1]`."""

    archives: Numbers
    starts: Numbers
    stops: Numbers
    bounds: Numbers

    @property
    def size(self) -> int:
        """The bytes that are read."""
        return int((self.stops - self.starts).sum())

    def __len__(self) -> int:
        return len(self.starts)


def plan(archives: Numbers, starts: Numbers, stops: Numbers, gap: int, limit: int) -> Reads:
    """The ranges to read for datapoints at these places. A datapoint above `limit` is a range of its own."""
    if not len(starts):
        return Reads(archives, starts, stops, np.zeros(1, np.int64))
    apart = (np.diff(archives) != 0) | (starts[1:] - stops[:-1] > gap)
    first = np.concatenate(([0], np.flatnonzero(apart) + 1))
    behind = np.append(first[1:], len(starts))
    long = stops[behind - 1] - starts[first] > limit
    if long.any():
        cuts = [_cuts(starts, stops, limit, *run) for run in zip(first[long], behind[long], strict=True)]
        first = np.sort(np.concatenate((first, *cuts)))
        behind = np.append(first[1:], len(starts))
    return Reads(archives[first], starts[first], stops[behind - 1], np.append(first, len(starts)))


def _cuts(starts: Numbers, stops: Numbers, limit: int, first: np.int64, behind: np.int64) -> Numbers:
    """Where the run of datapoints from `first` up to `behind` begins anew, so that each piece is within the limit."""
    cuts: list[int] = []
    at = int(first)
    while True:
        fit = int(np.searchsorted(stops[at:behind], starts[at] + limit, side="right"))
        at += max(fit, 1)
        if at >= behind:
            return np.array(cuts, np.int64)
        cuts.append(at)
