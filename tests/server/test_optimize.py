"""Plans of aggregates: which merges are proposed."""

import dataclasses
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t import v1
from datas3t.server import optimize
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from tests.support.uploads import Site, archive

MB = 1 << 20
TARGET, MAX_SIZE = 1024 * MB, 5 * 1024 * MB


def rows(*sizes: int, gaps: tuple[int, ...] = ()) -> list[Datarange]:
    datarange_rows, key = [], 1
    for number, size in enumerate(sizes):
        key += 10 if number in gaps else 0
        entries = size // 512 * 512 or 512
        datarange_rows.append(
            Datarange(number + 1, key, key + 9, f"{number}.tar", f"{number}.index", size, entries, "a", "b")
        )
        key += 10
    return datarange_rows


def propose(*sizes: int, score: float = 1.0, gaps: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in optimize.propose(rows(*sizes, gaps=gaps), score, TARGET, MAX_SIZE)]


def test_small_neighbours_are_merged() -> None:
    assert propose(*[MB // 10] * 20) == [(1, 200)]


def test_no_aggregate_spans_a_gap() -> None:
    assert sorted(propose(*[MB // 10] * 20, gaps=(10,))) == [(1, 100), (111, 210)]


def test_a_large_archive_is_left_out_if_the_small_ones_alone_score_better() -> None:
    assert propose(900 * MB, *[MB // 2] * 20) == [(11, 210)]


def test_archives_that_have_reached_the_target_are_left_as_they_are() -> None:
    assert propose(*[TARGET] * 5) == []


def test_archives_that_s3_can_copy_are_merged_up_to_the_target_size() -> None:
    proposals = optimize.propose(rows(*[64 * MB] * 40), 1.0, TARGET, MAX_SIZE)
    assert [each.count for each in proposals] == [16, 16, 8]
    assert all(each.moved == 1024 for each in proposals), "S3 copies all but the end marker"


def test_two_large_archives_are_only_proposed_with_a_lower_minimum_score() -> None:
    assert propose(500 * MB, 500 * MB) == []
    assert propose(500 * MB, 500 * MB, score=0.1) == [(1, 20)]


def test_fewer_than_two_archives_propose_nothing() -> None:
    assert propose() == []
    assert propose(10) == []


def test_thousands_of_proposals_are_made_in_seconds() -> None:
    all_rows = rows(*[11_000] * 12_000, gaps=tuple(range(0, 12_000, 2)))
    before = time.thread_time()
    assert len(optimize.propose(all_rows, 1.0, TARGET, MAX_SIZE)) == 6_000
    assert time.thread_time() - before < 7


@given(st.lists(st.integers(1024, 2048 * MB), max_size=40), st.sets(st.integers(0, 40)), st.floats(0, 10))
def test_proposals_have_the_promised_properties(sizes: list[int], gaps: set[int], score: float) -> None:
    all_rows = rows(*sizes, gaps=tuple(gaps))
    proposals = optimize.propose(all_rows, score, TARGET, MAX_SIZE)
    assert [each.score for each in proposals] == sorted((each.score for each in proposals), reverse=True)
    keys: set[int] = set()
    for each in proposals:
        inside = [row for row in all_rows if each.first <= row.first_key <= each.last]
        assert (inside[0].first_key, inside[-1].last_key) == (each.first, each.last)
        assert sum(row.count for row in inside) == each.last - each.first + 1, "no gap"
        assert len(inside) == each.count > 1
        assert each.size == sum(row.entries_size_bytes for row in inside) + 1024 <= MAX_SIZE
        assert each.score >= score
        assert not keys & {row.id for row in inside}
        keys |= {row.id for row in inside}


def test_too_many_operations_are_refused(site: Site) -> None:
    plan = partial(optimize.plan, site.resources, site.datas3t, min_score=None, target_size=0, max_size=0)
    assert plan(max_operations=10_000) == []
    with pytest.raises(Failure, match="max_operations is 10001, but at most 10000 are allowed") as caught:
        plan(max_operations=10_001)
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE


def test_uploaded_dataranges_are_planned(site: Site) -> None:
    for key in range(1, 6):
        site.upload(archive(key, b"x" * 100))
    (proposal,) = optimize.plan(
        site.resources, site.datas3t, min_score=None, target_size=0, max_size=0, max_operations=0
    )
    assert (proposal.first, proposal.last, proposal.count, proposal.objects_saved) == (1, 5, 5, 8)
    assert dataclasses.asdict(proposal)["moved"] == proposal.size
