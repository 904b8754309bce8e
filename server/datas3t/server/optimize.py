"""A plan of aggregates that are worth their cost: merges of small archives, scored by requests saved per byte moved.

A reader's request takes about as long as 1 MiB takes to arrive, and merging n dataranges saves n - 1 requests in every
pass over the data. The cost is the number of bytes that the client moves, and a 256th of those that S3 copies itself.
The score is the saving divided by the cost: an aggregate with a score of 1 or more pays off in the first pass.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from datas3t.archive import join
from datas3t.archive.index import END_SIZE
from datas3t.server import datas3ts, values
from datas3t.server.db import dataranges, pool, s3_buckets
from datas3t.server.db.dataranges import Datarange
from datas3t.server.resources import Resources

REQUEST_WORTH = 1 << 20  # bytes that could be read in the time of a request
COPIED_PER_MOVED = 256  # bytes that S3 copies at the cost of one byte that the client moves
TIER = 4  # the archives of a tier are up to this many times smaller than those of the next
MAX_SOURCES = 5_000  # of one aggregate, which may need two parts for each; S3 accepts 10,000 parts

MAX_OPERATIONS = 10_000  # in one plan, so that the response stays well below 1 MiB

DEFAULT_TARGET_SIZE = 1 << 30
DEFAULT_MAX_SIZE = 5 << 30
DEFAULT_OPERATIONS = 10
DEFAULT_MIN_SCORE = 1.0

_PAGE = 10_000  # rows in one query


@dataclass(frozen=True, slots=True)
class Proposal:
    """An aggregate of `count` dataranges. `size` and `moved`, the part of it that the client moves, are in bytes."""

    first: int
    last: int
    count: int
    size: int
    moved: int
    score: float

    @property
    def objects_saved(self) -> int:
        """How many archives and indices fewer there will be."""
        return 2 * (self.count - 1)


def plan(
    resources: Resources, name: str, *, min_score: float | None, target_size: int, max_size: int, max_operations: int
) -> list[Proposal]:
    """Return the best proposals for a datas3t, best first.

    Args:
        resources: What every call works with.
        name: The name of the datas3t.
        min_score: The lowest score of a proposal; None for 1.0.
        target_size: Archives smaller than this are merged until they reach it, in bytes; 0 for 1 GiB.
        max_size: The largest archive to make, in bytes; 0 for 5 GiB.
        max_operations: The number of proposals at most; 0 for 10.
    """
    values.name("datas3t_name", name)
    if min_score is not None and not min_score >= 0:
        raise values.invalid("min_score", f"is {min_score}, but must be 0 or more")
    max_size = values.archive_size("max_aggregate_size", max_size or DEFAULT_MAX_SIZE)
    target_size = min(values.archive_size("target_size", target_size or DEFAULT_TARGET_SIZE), max_size)
    max_operations = values.at_most("max_operations", max_operations, MAX_OPERATIONS) or DEFAULT_OPERATIONS
    datas3t = datas3ts.find(resources, name)
    rows = list(_all_dataranges(resources, datas3t.id))
    with pool.connection(resources.pool) as conn:
        equal_parts = any(row.equal_parts for row in s3_buckets.by_ids(conn, [datas3t.bucket_id]))
    min_score = DEFAULT_MIN_SCORE if min_score is None else min_score
    return propose(rows, min_score, target_size, max_size, equal_parts)[:max_operations]


def propose(
    rows: Sequence[Datarange], min_score: float, target_size: int, max_size: int, equal_parts: bool = False
) -> list[Proposal]:
    """Return proposals that do not overlap, best first; `rows` are in key order.

    Archives that have reached `target_size` are left as they are. Of the others, neighbours are merged, small ones
    before large ones, until they reach it. No archive grows beyond `max_size`. `equal_parts` means that the store
    demands parts of one size, so that the client moves more.
    """
    chosen: list[Proposal] = []
    lasts: list[int] = []  # of the chosen ones, in key order
    firsts: list[int] = []
    candidates = _candidates(rows, target_size, max_size, equal_parts)
    for candidate in sorted(candidates, key=lambda each: (-each.score, each.first, each.last)):
        at = bisect_left(lasts, candidate.first)
        if candidate.score >= min_score and (at == len(firsts) or candidate.last < firsts[at]):
            chosen.append(candidate)
            firsts.insert(at, candidate.first)
            lasts.insert(at, candidate.last)
    return chosen


def _candidates(rows: Sequence[Datarange], target_size: int, max_size: int, equal_parts: bool) -> Iterator[Proposal]:
    """Yield proposals for each tier: of archives smaller than the target, than a quarter of it, and so on."""
    limit = target_size
    smallest = min((row.size_bytes for row in rows), default=target_size)
    while True:
        for run in _runs(rows, limit):
            yield from (
                _proposal(group, equal_parts) for group in _groups(run, target_size, max_size) if len(group) > 1
            )
        if limit <= smallest:
            return
        limit //= TIER


def _runs(rows: Sequence[Datarange], limit: int) -> Iterator[list[Datarange]]:
    """Yield runs of neighbours without a gap that are all smaller than `limit`."""
    run: list[Datarange] = []
    for row in rows:
        if run and (row.size_bytes >= limit or row.first_key != run[-1].last_key + 1):
            yield run
            run = []
        if row.size_bytes < limit:
            run.append(row)
    if run:
        yield run


def _groups(run: Sequence[Datarange], target_size: int, max_size: int) -> Iterator[list[Datarange]]:
    """Cut a run into groups that have reached `target_size`, or would exceed a limit with one more."""
    group: list[Datarange] = []
    size = END_SIZE
    for row in run:
        if group and (size + row.entries_size_bytes > max_size or len(group) == MAX_SOURCES):
            yield group
            group, size = [], END_SIZE
        group.append(row)
        size += row.entries_size_bytes
        if size >= target_size:
            yield group
            group, size = [], END_SIZE
    if group:
        yield group


def _proposal(group: Sequence[Datarange], equal_parts: bool) -> Proposal:
    sizes = [row.entries_size_bytes for row in group]
    parts = join.equal_plan(sizes, join.equal_part_size(sizes)) if equal_parts else join.plan(sizes)
    moved = sum(part.size for part in parts if not part.copied)
    copied = sum(part.size for part in parts if part.copied)
    assert all(one.last_key + 1 == other.first_key for one, other in pairwise(group))
    score = (len(group) - 1) * REQUEST_WORTH / (moved + copied / COPIED_PER_MOVED)
    return Proposal(group[0].first_key, group[-1].last_key, len(group), moved + copied, moved, score)


def _all_dataranges(resources: Resources, datas3t_id: int) -> Iterator[Datarange]:
    after = -1
    while True:
        with pool.connection(resources.pool) as conn:
            rows = dataranges.page(conn, datas3t_id, after, _PAGE)
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].last_key
