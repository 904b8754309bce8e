"""Print how often the bytes of a stream of small archives are written, if `datas3t optimize` runs all the time.

Archives of one size arrive one after another. After each, the server's planner proposes merges, which are made, until
it proposes none. Nothing is stored: the planner sees the rows alone.

    .venv/bin/python bench/amplification.py --archives 10000
"""

import argparse
from dataclasses import dataclass

import numpy as np

from datas3t.archive.index import BLOCK, END_SIZE
from datas3t.server.db.datarange_columns import Columns
from datas3t.server.optimize.groups import Limits
from datas3t.server.optimize.proposals import DEFAULT_MAX_SIZE, DEFAULT_MIN_SCORE, DEFAULT_TARGET_SIZE, best

MB = 1 << 20
LIMITS = Limits(DEFAULT_TARGET_SIZE, DEFAULT_MAX_SIZE)


@dataclass
class Stream:
    """The dataranges of a datas3t that grows, as (first key, last key, bytes of entries), and what was written."""

    equal_parts: bool
    rows: list[tuple[int, int, int]]
    uploaded: int = 0
    merged: int = 0
    moved: int = 0
    most_rows: int = 0

    def add(self, size: int) -> None:
        """Upload an archive of one datapoint, and optimize."""
        key = self.rows[-1][1] + 1 if self.rows else 1
        self.rows.append((key, key, size))
        self.uploaded += size + END_SIZE
        while self._optimize():
            pass
        self.most_rows = max(self.most_rows, sum(row[2] < LIMITS.target_size for row in self.rows))

    def _optimize(self) -> bool:
        table = np.array(self.rows, np.int64)
        columns = Columns(table[:, :2], table[:, 2] + END_SIZE, table[:, 2])
        proposals = list(best(columns, DEFAULT_MIN_SCORE, LIMITS, equal_parts=self.equal_parts))
        for each in proposals:
            self.merged += each.size
            self.moved += each.moved
            outside = [row for row in self.rows if row[1] < each.first or row[0] > each.last]
            self.rows = sorted([*outside, (each.first, each.last, each.size - END_SIZE)])
        return bool(proposals)


def main() -> None:
    """Print a line for each size of archives."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--archives", type=int, default=10_000)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 0.5, 1, 2, 4.9, 8, 16, 64], help="in MiB")
    options = parser.parse_args()
    print("archives of | store | bytes written per byte of data: uploads and merges | by the client | most unmerged")
    for size in options.sizes:
        for equal_parts in (False, True):
            stream = Stream(equal_parts, [])
            for _ in range(options.archives):
                stream.add(int(size * MB) // BLOCK * BLOCK)
            written = (stream.uploaded + stream.merged) / stream.uploaded
            moved = (stream.uploaded + stream.moved) / stream.uploaded
            store = "equal parts" if equal_parts else "any parts"
            print(f"{size:g} MiB | {store} | {written:.2f} | {moved:.2f} | {stream.most_rows}", flush=True)


if __name__ == "__main__":
    main()
