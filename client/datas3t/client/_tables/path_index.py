"""Which row groups of the table `files` may have a path, or a key, without reading them: by the bounds in footers."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.client._tables import columns
from datas3t.client._tables.arrow import pa
from datas3t.client._tables.columns import Wanted
from datas3t.client._tables.footers import Fetch, Footers, Opened, TableFile
from datas3t.client._tables.groups import Group, bounds_of
from datas3t.client._tables.recent import Recent
from datas3t.client._tables.schemas import KEY, PATH

_MAX_DECODED = 64 << 20  # bytes of decoded keys and paths in memory


class _Bounds(NamedTuple):
    """The least and the greatest path of a row group; None for both if it has no paths, "" and None if any may be."""

    least: str | None
    greatest: str | None


class PathIndex:
    """The row groups of a listing of the table's files.

    It takes some hundred bytes for each, which has up to 65,536 rows. The columns that were read last are kept.
    """

    def __init__(self, files: Sequence[TableFile], footers: Footers, fetch: Fetch) -> None:
        self._footers = footers
        self._fetch = fetch
        self._files = sorted(files, key=lambda file: file.first)
        self._owners = array("q")  # of each row group: the number of its file
        self._numbers = array("q")  # of each row group: its number in the file
        self._rows = array("q")
        firsts, lasts = array("q"), array("q")
        self._bounds: list[_Bounds] = []
        for owner, opened in enumerate(footers.opened(self._files, fetch)):
            for number, first, last, rows in bounds_of(opened):
                self._owners.append(owner)
                self._numbers.append(number)
                self._rows.append(rows)
                firsts.append(first)
                lasts.append(last)
                self._bounds.append(_path_bounds(opened, number))
        self._firsts, self._lasts = np.array(firsts, np.int64), np.array(lasts, np.int64)
        self._decoded = Recent[tuple[int, int], pa.Table](_MAX_DECODED, lambda table: int(table.nbytes))

    def with_paths(self, paths: Sequence[str]) -> list[Group]:
        """Return the row groups that may have one of these paths, which are sorted, and those that may replace rows."""
        return self._groups(
            lambda least, greatest: (
                bisect_left(paths, least) < (len(paths) if greatest is None else bisect_right(paths, greatest))
            )
        )

    def with_prefix(self, prefix: str) -> list[Group]:
        """Return the row groups that may have paths that begin with a prefix, and those that may replace rows."""
        return self._groups(
            lambda least, greatest: (
                (greatest is None or greatest >= prefix) and (least <= prefix or least.startswith(prefix))
            )
        )

    def with_keys(self, keys: NDArray[np.int64]) -> list[Group]:
        """Return the row groups that may have one of these keys, which are sorted."""
        has_any = np.searchsorted(keys, self._firsts) < np.searchsorted(keys, self._lasts, "right")
        return self._opened(np.flatnonzero(has_any), frozenset(np.flatnonzero(has_any).tolist()))

    def load(self, groups: Sequence[Group]) -> list[pa.Table]:
        """Return the keys of row groups, with the paths of those that match."""
        found: dict[tuple[int, int], pa.Table] = {}
        missing: list[Group] = []
        for group in groups:
            place = (group.opened.file.id, group.number)
            kept = self._decoded.get(place)
            if kept is None:
                missing.append(group)
            else:
                found[place] = kept
        wanted = [Wanted(each.opened, each.number, _columns(each.opened)) for each in missing]
        for group, table in zip(missing, columns.read(wanted, self._fetch), strict=True):
            place = (group.opened.file.id, group.number)
            found[place] = table
            self._decoded.put(place, table)
        return [found[group.opened.file.id, group.number] for group in groups]

    def _groups(self, may_have: Callable[[str, str | None], bool]) -> list[Group]:
        matching = [
            number
            for number, bounds in enumerate(self._bounds)
            if bounds.least is not None and may_have(bounds.least, bounds.greatest)
        ]
        if not matching:
            return []
        # Row groups of newer files may replace rows of these.
        chosen = np.zeros(len(self._bounds), np.bool_)
        chosen[matching] = True
        spans = sorted((int(self._firsts[number]), int(self._lasts[number])) for number in matching)
        firsts = np.array([first for first, _ in spans])
        reached = np.maximum.accumulate([last for _, last in spans])
        at = np.searchsorted(firsts, self._lasts, "right") - 1
        chosen |= (at >= 0) & (reached[np.maximum(at, 0)] >= self._firsts)
        return self._opened(np.flatnonzero(chosen), frozenset(matching))

    def _opened(self, numbers: "NDArray[np.int64]", matching: frozenset[int]) -> list[Group]:
        """Return row groups by first key."""
        owners = sorted({self._owners[number] for number in numbers.tolist()})
        files = dict(zip(owners, self._footers.opened([self._files[n] for n in owners], self._fetch), strict=True))
        groups = []
        for number in numbers[np.argsort(self._firsts[numbers], kind="stable")].tolist():
            opened = files[self._owners[number]]
            first, last = int(self._firsts[number]), int(self._lasts[number])
            counter, rows = opened.file.counter, self._rows[number]
            groups.append(Group(first, last, counter, rows, number in matching, opened, self._numbers[number]))
        return groups


def _columns(opened: Opened) -> frozenset[str]:
    return frozenset((KEY, PATH)) & frozenset(opened.schema.names)


def _path_bounds(opened: Opened, number: int) -> _Bounds:
    metadata = opened.footer.metadata
    for leaf in columns.leaves(opened, (PATH,)):
        statistics = metadata.row_group(number).column(leaf).statistics
        if statistics is not None and statistics.has_min_max:
            with suppress(UnicodeDecodeError):  # other writers cut long texts in the middle of a character
                least, greatest = statistics.min, statistics.max
                if isinstance(least, str) and isinstance(greatest, str):
                    return _Bounds(least, greatest)
        return _Bounds("", None)
    return _Bounds(None, None)
