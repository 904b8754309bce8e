"""Which aggregates are worth their cost: size-tiered merges, scored by requests saved per byte moved.

A request costs a reader about as long as 1 MiB takes to arrive; merging n dataranges saves n-1 of them on every pass.
It costs the bytes that the client moves, and a 256th of those that S3 copies by itself. The score is the one divided by
the other: 1.0 and more pays back with the first pass over the data.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from datas3t.archive import join
from datas3t.archive.index import END_SIZE
from datas3t.server import datas3ts, values
from datas3t.server.db import dataranges, pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.resources import Resources

REQUEST = 1 << 20  # what a request less is worth, in bytes
COPIED = 256  # so many bytes that S3 copies cost as much as one that the client moves
TIER = 4  # each tier's archives are at most so many times smaller than the next one's
MOST_SOURCES = 5_000  # of one aggregate; S3 takes 10,000 parts

MOST_OPERATIONS = 10_000  # of one plan, which is then well below 1 MiB

DEFAULT_TARGET = 1 << 30
DEFAULT_MOST = 5 << 30
DEFAULT_OPERATIONS = 10
DEFAULT_SCORE = 1.0

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """An aggregate of `count` dataranges; sizes are bytes."""

    first: int
    last: int
    count: int
    size: int
    moved: int
    score: float

    @property
    def objects_saved(self) -> int:
        """Archives and indices that there will be less."""
        return 2 * (self.count - 1)


def plan(  # what the request says
    resources: Resources, name: str, *, min_score: float | None, target: int, most: int, operations: int
) -> list[Proposal]:
    """The best proposals for a datas3t, best first. 0 and None stand for the defaults."""
    values.name("datas3t_name", name)
    if min_score is not None and not min_score >= 0:
        raise values.invalid("min_score", f"is {min_score}, but a score is 0 or more")
    most = values.archive_size("max_aggregate_size", most or DEFAULT_MOST)
    target = min(values.archive_size("target_size", target or DEFAULT_TARGET), most)
    operations = values.at_most("max_operations", operations, MOST_OPERATIONS) or DEFAULT_OPERATIONS
    rows = list(_all(resources, datas3ts.find(resources, name).id))
    wanted = DEFAULT_SCORE if min_score is None else min_score
    return propose(rows, wanted, target, most)[:operations]


def propose(rows: Sequence[Datarange], min_score: float, target: int, most: int) -> list[Proposal]:
    """Proposals that do not overlap, best first. Archives that have reached `target` are left as they are; of the
    others neighbours are merged, small ones before large ones, until they reach it, and never above `most`."""
    chosen: list[Proposal] = []
    lasts: list[int] = []  # of those chosen, in key order
    firsts: list[int] = []
    for found in sorted(_candidates(rows, target, most), key=lambda each: (-each.score, each.first, each.last)):
        at = bisect_left(lasts, found.first)
        if found.score >= min_score and (at == len(firsts) or found.last < firsts[at]):
            chosen.append(found)
            firsts.insert(at, found.first)
            lasts.insert(at, found.last)
    return chosen


def _candidates(rows: Sequence[Datarange], target: int, most: int) -> Iterator[Proposal]:
    limit = target
    smallest = min((row.size_bytes for row in rows), default=target)
    while True:
        for stretch in _stretches(rows, limit):
            yield from (_proposal(group) for group in _groups(stretch, target, most) if len(group) > 1)
        if limit <= smallest:
            return
        limit //= TIER


def _stretches(rows: Sequence[Datarange], limit: int) -> Iterator[list[Datarange]]:
    """Neighbours without a gap, all smaller than `limit`."""
    stretch: list[Datarange] = []
    for row in rows:
        if stretch and (row.size_bytes >= limit or row.first_key != stretch[-1].last_key + 1):
            yield stretch
            stretch = []
        if row.size_bytes < limit:
            stretch.append(row)
    if stretch:
        yield stretch


def _groups(stretch: Sequence[Datarange], target: int, most: int) -> Iterator[list[Datarange]]:
    """Cuts a stretch where a group has reached `target`, or would pass `most`."""
    group: list[Datarange] = []
    size = END_SIZE
    for row in stretch:
        if group and (size + row.entries_size_bytes > most or len(group) == MOST_SOURCES):
            yield group
            group, size = [], END_SIZE
        group.append(row)
        size += row.entries_size_bytes
        if size >= target:
            yield group
            group, size = [], END_SIZE
    if group:
        yield group


def _proposal(group: Sequence[Datarange]) -> Proposal:
    parts = join.plan([row.entries_size_bytes for row in group])
    moved = sum(part.size for part in parts if not part.copied)
    copied = sum(part.size for part in parts if part.copied)
    assert all(one.last_key + 1 == other.first_key for one, other in pairwise(group))
    score = (len(group) - 1) * REQUEST / (moved + copied / COPIED)
    return Proposal(group[0].first_key, group[-1].last_key, len(group), moved + copied, moved, score)


def _all(resources: Resources, datas3t_id: int) -> Iterator[Datarange]:
    after = -1
    while True:
        with pool.connection(resources.pool) as conn:
            rows = dataranges.page(conn, datas3t_id, after, _PAGE)
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].last_key
