"""Row groups of a table's files, by key, and which of them may have rows of an answer."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.conditions import Expression, matching_groups
from datas3t.client._tables.footers import Fetch, Footers, Opened, TableFile
from datas3t.client._tables.schemas import KEY
from datas3t.client.keyset import KeySet

_OPENED_AT_ONCE = 256  # files


class Question(NamedTuple):
    """Which rows to read.

    Attributes:
        first: The first key.
        last: The last key.
        columns: The columns of the answer, with the key.
        where: The condition that rows must fulfil; None for all rows.
        needed: The columns of the answer and of the condition, and the key.
        present: The keys of which rows are shown; None for all.
    """

    first: int
    last: int
    columns: pa.Schema
    where: Expression | None
    needed: pa.Schema
    present: KeySet | None


class Group(NamedTuple):
    """A row group.

    Attributes:
        first: Its first key.
        last: Its last key.
        counter: The counter of its file: for one key, the row of the greatest counts.
        rows: How many rows it has.
        matches: Whether rows of it may be part of the answer. The others only replace rows of older files.
        opened: Its file.
        number: Its number in the file.
    """

    first: int
    last: int
    counter: int
    rows: int
    matches: bool
    opened: Opened
    number: int


def groups(files: Sequence[TableFile], footers: Footers, fetch: Fetch, question: Question) -> Iterator[Group]:
    """Yield the row groups that may have rows of an answer, or replace some, by their first keys.

    Few footers are held at a time, however many files there are.
    """
    ordered = sorted(files, key=lambda file: file.first)
    waiting: list[tuple[int, int, int, Group]] = []
    for start in range(0, len(ordered), _OPENED_AT_ONCE):
        for opened in footers.opened(ordered[start : start + _OPENED_AT_ONCE], fetch):
            for group in _groups_of(opened, question):
                heapq.heappush(waiting, (group.first, group.counter, group.number, group))
        following = ordered[start + _OPENED_AT_ONCE].first if start + _OPENED_AT_ONCE < len(ordered) else None
        while waiting and (following is None or waiting[0][0] < following):
            yield heapq.heappop(waiting)[-1]


def _groups_of(opened: Opened, question: Question) -> Iterator[Group]:
    where, present = question.where, question.present
    matching = None if where is None else matching_groups(opened, where, question.needed)
    for number, first, last, rows in bounds_of(opened):
        if first > question.last or last < question.first or not rows:
            continue
        if present is None or _holds_any(present, first, last):
            matches = matching is None or number in matching
            yield Group(first, last, opened.file.counter, rows, matches, opened, number)


def bounds_of(opened: Opened) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, first key, last key and rows of each row group of a file."""
    metadata = opened.footer.metadata
    key_column = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path == KEY)
    for number in range(metadata.num_row_groups):
        row_group = metadata.row_group(number)
        statistics = row_group.column(key_column).statistics
        if statistics is not None and statistics.has_min_max:
            yield number, statistics.min, statistics.max, row_group.num_rows
        else:
            yield number, opened.file.first, opened.file.last, row_group.num_rows


def _holds_any(present: KeySet, first: int, last: int) -> bool:
    firsts, lasts = present.bounds
    at = int(lasts.searchsorted(first))
    return at < len(firsts) and int(firsts[at]) <= last


def overlapping(groups: Iterable[Group], other: Group) -> bool:
    """Return whether one of the groups has keys in the range of another one, and is of an older file."""
    return any(
        each.counter < other.counter and each.first <= other.last and each.last >= other.first for each in groups
    )
