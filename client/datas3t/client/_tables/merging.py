"""The newest row of each key, out of row groups of several files, by windows of keys that fit into memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.groups import Group, overlapping
from datas3t.client._tables.schemas import KEY, with_schema

_MAX_REPLACING = 256  # groups that are kept without looking at whether they still matter
WINDOW = 32 << 20  # bytes of columns that are decoded for a window, about

Keys: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
Load: TypeAlias = Callable[[Sequence[Group]], Sequence[pa.Table]]


class _Loaded(NamedTuple):
    """A row group with its columns; only the key of one that does not match."""

    group: Group
    keys: Keys
    table: pa.Table


def merged(
    groups: Iterable[Group], schema: pa.Schema, load: Load, size_of: Callable[[Group], int]
) -> Iterator[pa.Table]:
    """Yield the newest row of each key, in key order, of those groups that match.

    Memory: a window, and the groups that begin before it and end in it or after it.

    Args:
        groups: The groups, by first key.
        schema: The columns of the result, with the key.
        load: Returns the columns of groups.
        size_of: How many bytes the columns of a group take.
    """
    upcoming = iter(groups)
    following = next(upcoming, None)
    active: list[_Loaded] = []
    replacing: list[Group] = []  # that do not match, and are loaded where they may replace rows
    while following is not None or active:
        # Take groups until they fill a window, which ends before the next group begins.
        taken: list[Group] = []
        size = 0
        while following is not None and (size < WINDOW or following.first == taken[-1].first):
            (taken if following.matches else replacing).append(following)
            size += size_of(following) if following.matches else 0
            following = next(upcoming, None)
            if len(replacing) > _MAX_REPLACING and following is not None:
                matching = [*taken, *(each.group for each in active if each.group.matches)]
                before = following.first
                replacing = [each for each in replacing if each.last >= before or overlapping(matching, each)]
        end = following.first - 1 if following is not None else None
        matching = [*taken, *(each.group for each in active if each.group.matches)]
        wanted = [each for each in replacing if overlapping(matching, each)]
        replacing = [each for each in replacing if each not in wanted and (end is None or each.last > end)]
        active += _loaded([*taken, *wanted], load)
        if matching:
            yield _newest([_until(each, end) for each in active], schema)
        active = [_after(each, end) for each in active if end is not None and each.group.last > end]
        if not any(each.group.matches for each in active) and following is None:
            return


def _loaded(groups: Sequence[Group], load: Load) -> list[_Loaded]:
    return [
        _Loaded(group, table.column(KEY).to_numpy(), table) for group, table in zip(groups, load(groups), strict=True)
    ]


def _until(loaded: _Loaded, end: int | None) -> _Loaded:
    if end is None or loaded.group.last <= end:
        return loaded
    count = int(np.searchsorted(loaded.keys, end, "right"))
    return _Loaded(loaded.group, loaded.keys[:count], loaded.table.slice(0, count))


def _after(loaded: _Loaded, end: int) -> _Loaded:
    count = int(np.searchsorted(loaded.keys, end, "right"))
    return _Loaded(loaded.group, loaded.keys[count:], loaded.table.slice(count))


def _newest(pieces: Sequence[_Loaded], schema: pa.Schema) -> pa.Table:
    """Return the newest row of each key; keys whose newest row is of a group that does not match are left out."""
    pieces = sorted((each for each in pieces if len(each.keys)), key=lambda each: int(each.keys[0]))
    if all(one.keys[-1] < other.keys[0] for one, other in pairwise(pieces)):
        return _joined(pieces, schema)
    keys = np.concatenate([each.keys for each in pieces])
    counters = np.repeat([each.group.counter for each in pieces], [len(each.keys) for each in pieces])
    matches = np.repeat([each.group.matches for each in pieces], [len(each.keys) for each in pieces])
    order = np.lexsort((-counters, keys))
    ordered = keys[order]
    newest = order[np.concatenate(([True], ordered[1:] != ordered[:-1]))]
    # The rows of groups that match are numbered as `_joined` has them.
    rows = (np.cumsum(matches) - 1)[newest[matches[newest]]]
    return _joined(pieces, schema).take(rows)


def _joined(pieces: Sequence[_Loaded], schema: pa.Schema) -> pa.Table:
    tables = [with_schema(each.table, schema) for each in pieces if each.group.matches]
    return pa.concat_tables(tables) if tables else schema.empty_table()
