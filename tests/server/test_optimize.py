"""Plans of aggregates: which merges are proposed."""

import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t import v1
from datas3t.archive import join
from datas3t.server import datas3ts, optimize
from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.db import datarange_columns
from datas3t.server.db.datarange_columns import Columns
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.pool import Connection, connection
from datas3t.server.errors import Failure
from datas3t.server.optimize import groups, proposals
from datas3t.server.optimize.groups import Limits
from tests.support.stack import wait_until
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


def test_five_archives_of_2_mb_are_merged() -> None:
    assert propose(*[2 * MB] * 5) == [(1, 50)]


@pytest.mark.parametrize("megabytes", [1.1, 3, 4.9])
@pytest.mark.parametrize("equal_parts", [False, True])
def test_thousands_of_archives_that_s3_does_not_copy_are_merged(megabytes: float, equal_parts: bool) -> None:
    proposals = optimize.propose(rows(*[int(megabytes * MB)] * 2_000), 1.0, TARGET, MAX_SIZE, equal_parts)
    assert sum(each.count for each in proposals) == 2_000
    assert all(each.size >= TARGET for each in sorted(proposals, key=lambda each: each.first)[:-1])


@pytest.mark.parametrize("sizes", [[500, 5], [500, 5, 5], [5, 5], [60, 64, 64, 64], [200] * 4, [100, 1, 1, 1, 1]])
def test_what_would_soon_be_merged_again_is_only_merged_with_a_lower_minimum_score(sizes: list[int]) -> None:
    assert propose(*(size * MB for size in sizes)) == []
    assert propose(*(size * MB for size in sizes), score=0.5)


def test_tiny_archives_are_merged_whatever_their_sizes() -> None:
    assert propose(100 << 10, 20 << 10) == [(1, 20)]


@pytest.mark.parametrize("equal_parts", [False, True])
def test_a_stream_of_archives_of_1_mb_is_written_three_times_at_most(equal_parts: bool) -> None:
    sizes: list[int] = []
    written = 0
    for _ in range(400):
        sizes += [MB] * 4
        written += 4 * MB
        while merges := optimize.propose(rows(*sizes), 1.0, TARGET, MAX_SIZE, equal_parts):
            for each in sorted(merges, key=lambda each: -each.first):
                first, last = each.first // 10, each.last // 10  # of the rows
                written += each.size
                sizes[first:last] = [sum(sizes[first:last])]
    assert sum(sizes) == 1_600 * MB
    assert written <= 3 * sum(sizes)
    assert len(sizes) < 200


SIZES = st.lists(st.one_of(st.integers(1024, 12 * MB), st.integers(1024, 2048 * MB)), max_size=40)


@given(SIZES, st.sets(st.integers(0, 40)), st.booleans())
def test_the_bytes_that_the_client_moves_are_those_of_the_part_plan(
    sizes: list[int], gaps: set[int], equal_parts: bool
) -> None:
    all_rows = rows(*sizes, gaps=tuple(gaps))
    for each in optimize.propose(all_rows, 0, TARGET, MAX_SIZE, equal_parts):
        entries = [row.entries_size_bytes for row in all_rows if each.first <= row.first_key <= each.last]
        plan = join.equal_plan(entries, join.equal_part_size(entries)) if equal_parts else join.plan(entries)
        assert each.moved == sum(part.size for part in plan if not part.copied)


@given(SIZES, st.sets(st.integers(0, 40)), st.integers(1024, 64 * MB), st.integers(1, 4), st.integers(2, 9))
def test_groups_are_those_of_a_loop_over_the_rows(
    sizes: list[int], gaps: set[int], target: int, most: int, most_sources: int
) -> None:
    limits = Limits(target, target * most)
    all_rows = rows(*sizes, gaps=tuple(gaps))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "MAX_SOURCES", most_sources)
        found = {
            (int(begin), int(stop))
            for tier in groups.tiers(columns_of(all_rows), limits)
            for begin, stop in zip(tier.begins, tier.stops, strict=True)
        }
    assert found == set(simple_groups(all_rows, limits, most_sources))


def simple_groups(all_rows: list[Datarange], limits: Limits, most_sources: int) -> Iterator[tuple[int, int]]:
    limit = limits.target_size
    while True:
        begin, size = 0, 1024
        for at, row in enumerate(all_rows):
            entries, joined = row.entries_size_bytes, at > begin and row.first_key == all_rows[at - 1].last_key + 1
            too_much = size + entries > limits.max_size or at - begin == most_sources
            if row.size_bytes >= limit or not joined or size >= limits.target_size or too_much:
                if at - begin > 1:
                    yield begin, at
                begin, size = at, 1024
            if row.size_bytes >= limit:
                begin = at + 1
            else:
                size += entries
        if len(all_rows) - begin > 1:
            yield begin, len(all_rows)
        if limit <= min((row.size_bytes for row in all_rows), default=limit):
            return
        limit //= groups.TIER


class EndingCall(Call):
    """A call whose client leaves when it is asked for the nth time whether it still waits."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def raise_if_ended(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.end(caller_left())
        super().raise_if_ended()


def test_a_plan_ends_soon_after_its_client_has_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    insert_rows(site, 1_000)
    monkeypatch.setattr(datarange_columns, "_PAGE_ROWS", 250)
    monkeypatch.setattr(groups, "_STEPS", 10)
    monkeypatch.setattr(proposals, "_STEPS", 10)
    plan = partial(optimize.plan, site.resources, site.datas3t, min_score=0, target_size=1 << 20, max_size=0)
    counting = EndingCall(0)
    with working_on(counting):
        assert plan(max_operations=10_000)
    asked = -counting.left
    assert asked > 20
    for number in {*range(1, asked, asked // 8), asked}:
        with working_on(EndingCall(number)), pytest.raises(Failure) as caught:
            plan(max_operations=10_000)
        assert caught.value.reason == v1.ERROR_REASON_CALLER_LEFT


def test_dataranges_are_read_page_by_page_without_those_that_are_replaced_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_rows(site, 10)
    datas3t_id = datas3ts.find(site.resources, site.datas3t).id
    monkeypatch.setattr(datarange_columns, "_PAGE_ROWS", 3)

    def bounds() -> list[list[int]]:
        with datarange_columns.loaded(site.resources.pool, datas3t_id) as loaded:
            columns = loaded
        assert (columns.sizes == columns.entries_sizes + 1024).all()
        found: list[list[int]] = columns.bounds.tolist()
        return found

    assert bounds() == [[n, n] for n in range(1, 11)]
    read = datarange_columns._page

    def read_and_merge(conn: Connection, *arguments: int) -> bytes:
        packed = read(conn, *arguments)
        conn.execute("DELETE FROM dataranges WHERE first_key BETWEEN 2 AND 5")
        conn.execute(INSERT, {"first": 2, "last": 2, "more": 3})
        return packed

    monkeypatch.setattr(datarange_columns, "_page", read_and_merge)
    assert bounds() == [[1, 1], [2, 5], *([n, n] for n in range(6, 11))]


def test_few_calls_have_many_dataranges_in_memory_and_a_waiting_one_has_no_slot_and_can_be_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots: list[str] = []
    call = Call(60, release_slot=lambda: slots.append("released"), take_slot=lambda: slots.append("taken"))
    monkeypatch.setattr(datarange_columns, "_PAGE_ROWS", 3)
    monkeypatch.setattr(datarange_columns, "_PLACES", datarange_columns._Places(1, waiting=1))
    insert_rows(site, 10)
    with connection(site.resources.pool) as conn:
        ((datas3t_id,),) = conn.execute("SELECT id FROM datas3ts").fetchall()

    def count() -> int:
        with working_on(call), datarange_columns.loaded(site.resources.pool, datas3t_id) as columns:
            return len(columns.sizes)

    with ThreadPoolExecutor(1) as thread:
        with datarange_columns.loaded(site.resources.pool, datas3t_id):
            waiting = thread.submit(count)
            wait_until(lambda: slots == ["released"])
            with pytest.raises(Failure, match="too many calls compute merges") as caught:
                count()
            assert caught.value.reason == v1.ERROR_REASON_SERVER_BUSY
            with connection(site.resources.pool) as conn:
                conn.execute("DELETE FROM dataranges WHERE first_key > 2")
            with datarange_columns.loaded(site.resources.pool, datas3t_id) as few:  # of one page: does not wait
                assert len(few.sizes) == 2
            insert_rows(site, 10)
        assert waiting.result() == 10
        assert slots == ["released", "taken"]
        with datarange_columns.loaded(site.resources.pool, datas3t_id):
            waiting = thread.submit(count)
            wait_until(lambda: slots == ["released", "taken", "released"])
            call.end(caller_left())
            with pytest.raises(Failure, match="cancelled the call") as caught:
                waiting.result()
        assert slots == ["released", "taken"] * 2


INSERT = """
    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                            entries_size_bytes, data_etag, index_etag)
    SELECT catalogue_id, n, n + %(more)s, gen_random_uuid(), gen_random_uuid(), 6144 + n * 512, 5120 + n * 512, '', ''
      FROM datas3ts, generate_series(%(first)s::bigint, %(last)s) AS n ON CONFLICT DO NOTHING
"""


def insert_rows(site: Site, count: int) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute(INSERT, {"first": 1, "last": count, "more": 0})


def columns_of(all_rows: list[Datarange]) -> Columns:
    table = np.array([(row.first_key, row.last_key, row.size_bytes, row.entries_size_bytes) for row in all_rows])
    table = table.astype(np.int64).reshape(-1, 4)
    return Columns(table[:, :2], table[:, 2], table[:, 3])


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
