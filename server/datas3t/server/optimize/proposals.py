"""Proposals of aggregates: the best groups of all tiers that do not overlap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from datas3t.server import datas3ts, values
from datas3t.server.call import current
from datas3t.server.db import datarange_columns, pool, s3_buckets
from datas3t.server.db.datarange_columns import Columns
from datas3t.server.db.dataranges import Datarange
from datas3t.server.optimize.groups import Limits, tiers
from datas3t.server.optimize.scores import Scored, Scorer
from datas3t.server.resources import Resources

MAX_OPERATIONS = 10_000  # in one plan, so that the response stays well below 1 MiB

DEFAULT_TARGET_SIZE = 1 << 30
DEFAULT_MAX_SIZE = 5 << 30
DEFAULT_OPERATIONS = 10
DEFAULT_MIN_SCORE = 1.0

_STEPS = 1 << 14  # groups that are looked at before the call is asked whether its client still waits


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
    with pool.connection(resources.pool) as conn:
        equal_parts = any(row.equal_parts for row in s3_buckets.by_ids(conn, [datas3t.bucket_id]))
    min_score = DEFAULT_MIN_SCORE if min_score is None else min_score
    limits = Limits(target_size, max_size)
    with datarange_columns.loaded(resources.pool, datas3t.id) as columns:
        return list(islice(best(columns, min_score, limits, equal_parts=equal_parts), max_operations))


def propose(
    rows: Sequence[Datarange], min_score: float, target_size: int, max_size: int, equal_parts: bool = False
) -> list[Proposal]:
    """Return all proposals for these rows, which are in key order; see `best`."""
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which other calls do not need

    table = np.array(
        [(row.first_key, row.last_key, row.size_bytes, row.entries_size_bytes) for row in rows], np.int64
    ).reshape(-1, 4)
    columns = Columns(table[:, :2], table[:, 2], table[:, 3])
    return list(best(columns, min_score, Limits(target_size, max_size), equal_parts=equal_parts))


def best(columns: Columns, min_score: float, limits: Limits, *, equal_parts: bool) -> Iterator[Proposal]:
    """Yield proposals that do not overlap, best first.

    Archives that have reached the target size are left as they are. Of the others, neighbours are merged, small ones
    before large ones, until they reach it. No archive grows beyond the maximum size. `equal_parts` means that the store
    demands parts of one size, so that the client moves more.
    """
    scored = _all_scored(columns, min_score, limits, equal_parts)
    taken = bytearray(len(columns.sizes))  # marks the rows of what was yielded
    for step, number in enumerate(_best_first(scored)):
        if step % _STEPS == 0:
            current().raise_if_ended()
        begin, stop = int(scored.begins[number]), int(scored.stops[number])
        if taken.find(1, begin, stop) >= 0:
            continue
        taken[begin:stop] = b"\1" * (stop - begin)
        yield Proposal(
            int(columns.bounds[begin, 0]),
            int(columns.bounds[stop - 1, 1]),
            stop - begin,
            int(scored.sizes[number]),
            int(scored.moved[number]),
            float(scored.scores[number]),
        )


def _all_scored(columns: Columns, min_score: float, limits: Limits, equal_parts: bool) -> Scored:
    """Return the groups of all tiers that score enough."""
    import numpy as np  # noqa: PLC0415 - see `propose`

    scorer = Scorer(columns, limits, equal_parts=equal_parts)
    found = map(scorer.score, tiers(columns, limits))
    enough = [each.chosen(each.scores >= min_score) for each in found]
    return Scored(*(np.concatenate(column) for column in zip(*enough, strict=True)))


def _best_first(scored: Scored) -> list[int]:
    """Return the numbers of the groups by score, and those of one score by keys."""
    import numpy as np  # noqa: PLC0415 - see `propose`

    order: list[int] = np.lexsort((scored.stops, scored.begins, -scored.scores)).tolist()
    return order
