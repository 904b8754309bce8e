"""Which aggregates are proposed."""

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
TARGET, MOST = 1024 * MB, 5 * 1024 * MB


def rows(*sizes: int, gaps: tuple[int, ...] = ()) -> list[Datarange]:
    found, key = [], 1
    for number, size in enumerate(sizes):
        key += 10 if number in gaps else 0
        entries = size // 512 * 512 or 512
        found.append(Datarange(number + 1, key, key + 9, f"{number}.tar", f"{number}.index", size, entries, "a", "b"))
        key += 10
    return found


def propose(*sizes: int, score: float = 1.0, gaps: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in optimize.propose(rows(*sizes, gaps=gaps), score, TARGET, MOST)]


def test_small_neighbours_are_merged() -> None:
    assert propose(*[MB // 10] * 20) == [(1, 200)]


def test_a_gap_is_never_bridged() -> None:
    assert sorted(propose(*[MB // 10] * 20, gaps=(10,))) == [(1, 100), (111, 210)]


def test_a_large_one_is_left_out_where_the_small_ones_alone_score_better() -> None:
    assert propose(900 * MB, *[MB // 2] * 20) == [(11, 210)]


def test_archives_that_have_reached_the_target_are_left_as_they_are() -> None:
    assert propose(*[TARGET] * 5) == []


def test_archives_that_s3_can_copy_are_merged_into_archives_of_the_target() -> None:
    found = optimize.propose(rows(*[64 * MB] * 40), 1.0, TARGET, MOST)
    assert [each.count for each in found] == [16, 16, 8]
    assert all(each.moved == 1024 for each in found), "S3 copies all but the end marker"


def test_two_large_ones_are_not_worth_it_and_a_lower_score_makes_them() -> None:
    assert propose(500 * MB, 500 * MB) == []
    assert propose(500 * MB, 500 * MB, score=0.1) == [(1, 20)]


def test_nothing_and_one_propose_nothing() -> None:
    assert propose() == []
    assert propose(10) == []


def test_as_many_proposals_as_there_are_gaps_are_made_in_seconds() -> None:
    there = rows(*[11_000] * 12_000, gaps=tuple(range(0, 12_000, 2)))
    before = time.thread_time()
    assert len(optimize.propose(there, 1.0, TARGET, MOST)) == 6_000
    assert time.thread_time() - before < 7


@given(st.lists(st.integers(1024, 2048 * MB), max_size=40), st.sets(st.integers(0, 40)), st.floats(0, 10))
def test_proposals_hold_what_they_promise(sizes: list[int], gaps: set[int], score: float) -> None:
    there = rows(*sizes, gaps=tuple(gaps))
    found = optimize.propose(there, score, TARGET, MOST)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    keys: set[int] = set()
    for each in found:
        inside = [row for row in there if each.first <= row.first_key <= each.last]
        assert (inside[0].first_key, inside[-1].last_key) == (each.first, each.last)
        assert sum(row.count for row in inside) == each.last - each.first + 1, "no gap"
        assert len(inside) == each.count > 1
        assert each.size == sum(row.entries_size_bytes for row in inside) + 1024 <= MOST
        assert each.score >= score
        assert not keys & {row.id for row in inside}
        keys |= {row.id for row in inside}


def test_more_proposals_than_an_answer_holds_are_refused(site: Site) -> None:
    plan = partial(optimize.plan, site.resources, site.datas3t, min_score=None, target_size=0, max_size=0)
    assert plan(max_operations=10_000) == []
    with pytest.raises(Failure, match="max_operations is 10001, but at most 10000 are allowed") as caught:
        plan(max_operations=10_001)
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE


def test_a_real_datas3t_is_planned(site: Site) -> None:
    for key in range(1, 6):
        site.upload(archive(key, b"x" * 100))
    (found,) = optimize.plan(site.resources, site.datas3t, min_score=None, target_size=0, max_size=0, max_operations=0)
    assert (found.first, found.last, found.count, found.objects_saved) == (1, 5, 5, 8)
    assert dataclasses.asdict(found)["moved"] == found.size
