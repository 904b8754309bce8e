"""Scores of merges: what they save, divided by what they cost, and whether the new archive will last.

A reader's request takes about as long as 1 MiB takes to arrive, and merging n archives saves n - 1 requests in every
pass over the data. Ten passes are counted: data that is read at all is mostly read again, as in the epochs of a
training, and what has not paid off by then is not worth the work. The cost is the number of bytes that the client
moves, and a 256th of those that S3 copies itself.

A new archive below the target size is merged again as the datas3t grows. If every merge that saves something were made
at once, a stream of small archives would be written over and over. So a merge scores 1 or more only if the new archive
lasts, which it does in any of these cases:

1. The merge saves 4 MiB for each MiB that it writes, in one pass: rewriting so little does not matter.
2. The archive has at least twice the size of its largest source, and the merge saves 1.5 MiB for each MiB in one pass.
3. It has at least four times the size of its largest source, and has reached the target size. Or its sources have less
   than 4 MiB on average, and the merge saves an eighth of a pass over the neighbours that are smaller than a quarter of
   the target size.
4. It has at least eight times the size of its largest source, and a quarter of the target size.

`bench/amplification.py` prints how often the bytes of a stream are written by these rules.
"""

from typing import TYPE_CHECKING, NamedTuple

from datas3t.archive import join
from datas3t.archive.index import END_SIZE
from datas3t.archive.parts import MIN_PART
from datas3t.server.call import current
from datas3t.server.db.datarange_columns import Columns
from datas3t.server.optimize.groups import TIER, Groups, Limits, cut, runs_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

REQUEST_WORTH = 1 << 20  # bytes that could be read in the time of a request
COPIED_PER_MOVED = 256  # bytes that S3 copies at the cost of one byte that the client moves
PASSES = 10

_SHORT_LIVED = 0.5  # the highest score of a merge that does not last
_SAVES_FAR_MORE, _SAVES_MORE, _SAVES_SOME = 4.0, 1.5, 0.25  # times what the merge writes, in one pass
_GROWS, _GROWS_MUCH, _GROWS_MOST = 2, 4, 8  # times the size of the largest source
_PART_OF_A_PASS = 8


class Scored(NamedTuple):
    """Groups with the size of each new archive, the bytes that the client moves, and the score."""

    begins: "Numbers"
    stops: "Numbers"
    sizes: "Numbers"
    moved: "Numbers"
    scores: "Floats"

    def chosen(self, which: "Flags") -> "Scored":
        """Return some of the groups."""
        return self._replace(**{name: column[which] for name, column in self._asdict().items()})


class Scorer:
    """Scores groups of the archives of a datas3t."""

    def __init__(self, columns: Columns, limits: Limits, *, equal_parts: bool) -> None:
        import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which other calls do not need

        self._entries = columns.entries_sizes
        self._ends = np.concatenate([[0], np.cumsum(self._entries)])
        self._large = np.concatenate([[0], np.cumsum(self._entries >= MIN_PART)])
        self._equal_parts = equal_parts
        self._quarter = limits.target_size // TIER

        # What is left of the neighbours of each row when all groups are merged that reach the target size.
        runs = runs_below(columns, self._quarter)
        groups = cut(columns, runs, limits)
        reached = np.flatnonzero(groups.full & (self._growth(groups) >= _GROWS_MUCH))
        begins, stops = groups.begins[reached], groups.stops[reached]
        counts, entries = runs.stops - runs.begins, self._ends[runs.stops] - self._ends[runs.begins]
        np.subtract.at(counts, runs.begins[begins], stops - begins)
        np.subtract.at(entries, runs.begins[begins], self._ends[stops] - self._ends[begins])
        self._left_counts, self._left_entries = counts[runs.begins], entries[runs.begins]

    def score(self, groups: Groups) -> Scored:
        """Return the groups with their scores."""
        import numpy as np  # noqa: PLC0415 - see `__init__`

        counts = groups.stops - groups.begins
        sizes = self._ends[groups.stops] - self._ends[groups.begins] + END_SIZE
        moved = self._moved(groups)
        saved = (counts - 1.0) * REQUEST_WORTH
        scores = PASSES * saved / (moved + (sizes - moved) / COPIED_PER_MOVED)

        growth = self._growth(groups)
        left = self._left_entries[groups.begins] + self._left_counts[groups.begins] * REQUEST_WORTH
        saves_of_a_pass = (saved >= _SAVES_SOME * sizes) & (_PART_OF_A_PASS * saved >= left)
        lasts = saved >= _SAVES_FAR_MORE * sizes
        lasts |= (growth >= _GROWS) & (saved >= _SAVES_MORE * sizes)
        lasts |= (growth >= _GROWS_MUCH) & (groups.full | saves_of_a_pass)
        lasts |= (growth >= _GROWS_MOST) & (sizes >= self._quarter)
        scores = np.where(lasts, scores, np.minimum(scores, _SHORT_LIVED))
        return Scored(groups.begins, groups.stops, sizes, moved, scores)

    def _growth(self, groups: Groups) -> "Floats":
        """Return how many times larger than its largest source each new archive is."""
        import numpy as np  # noqa: PLC0415 - see `__init__`

        entries: Floats = (self._ends[groups.stops] - self._ends[groups.begins]).astype(np.float64)
        if not len(entries):
            return entries
        edges = np.column_stack([groups.begins, groups.stops]).ravel()
        growth: Floats = entries / np.maximum.reduceat(np.append(self._entries, 0), edges)[::2]
        return growth

    def _moved(self, groups: Groups) -> "Numbers":
        """Return how many bytes the client moves for each group, which is what the part plan says."""
        import numpy as np  # noqa: PLC0415 - see `__init__`

        entries = self._ends[groups.stops] - self._ends[groups.begins]
        moved: Numbers
        if self._equal_parts:
            moved, planned = entries + END_SIZE, entries >= MIN_PART
        else:
            large = self._large[groups.stops] - self._large[groups.begins]
            counts = groups.stops - groups.begins
            moved = np.where(large == 0, entries, 0) + END_SIZE
            planned = (large > 0) & (large < counts)
        for number in np.flatnonzero(planned).tolist():
            current().raise_if_ended()
            sizes = self._entries[groups.begins[number] : groups.stops[number]].tolist()
            moved[number] = join.equal_plan_uploads(sizes) if self._equal_parts else join.plan_uploads(sizes)
        return moved
