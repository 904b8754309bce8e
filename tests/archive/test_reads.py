"""Ranges to read, compared with a loop over the datapoints."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import reads


class Place(NamedTuple):
    """The bytes of a datapoint in an archive."""

    archive: int
    start: int
    stop: int


class Range(NamedTuple):
    """A range to read, and the numbers of the datapoints in it."""

    archive: int
    start: int
    stop: int
    datapoints: list[int]


@st.composite
def layouts(draw: st.DrawFn) -> list[Place]:
    """Draw the places of datapoints in up to five archives, sorted, with holes between them."""
    places = []
    for archive in range(draw(st.integers(0, 5))):
        at = 0
        for hole, size in draw(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 5000)), max_size=20)):
            places.append(Place(archive, at + hole, at + hole + size))
            at += hole + size
    return places


def planned(places: list[Place], gap: int, limit: int) -> list[Range]:
    """Return the planned ranges, after checking that the arrays fit together."""
    archives, starts, stops = (
        np.array([place[column] for place in places], np.int64) for column in range(len(Place._fields))
    )
    found = reads.plan(archives, starts, stops, gap, limit)
    bounds = found.bounds.tolist()
    assert len(found) == len(bounds) - 1
    assert found.size == sum((found.stops - found.starts).tolist())
    ends = zip(found.archives.tolist(), found.starts.tolist(), found.stops.tolist(), pairwise(bounds), strict=True)
    return [Range(archive, start, stop, list(range(*within))) for archive, start, stop, within in ends]


def expected_ranges(places: list[Place], gap: int, limit: int) -> list[Range]:
    """Return the ranges that a loop makes."""
    ranges: list[Range] = []
    for number, (archive, start, stop) in enumerate(places):
        last = ranges[-1] if ranges else None
        if last and last.archive == archive and start - last.stop <= gap and stop - last.start <= limit:
            ranges[-1] = Range(archive, last.start, stop, [*last.datapoints, number])
        else:
            ranges.append(Range(archive, start, stop, [number]))
    return ranges


GAPS = st.one_of(st.just(0), st.integers(0, 4000), st.just(1 << 40))
LIMITS = st.one_of(st.integers(1, 30_000), st.just(1 << 40))


@given(layouts(), GAPS, LIMITS)
def test_a_plan_has_the_ranges_that_a_loop_makes(places: list[Place], gap: int, limit: int) -> None:
    assert planned(places, gap, limit) == expected_ranges(places, gap, limit)


@given(layouts(), GAPS, LIMITS)
def test_each_datapoint_is_in_exactly_one_range_of_its_archive(places: list[Place], gap: int, limit: int) -> None:
    ranges = planned(places, gap, limit)
    assert [number for each in ranges for number in each.datapoints] == list(range(len(places)))
    for archive, start, stop, datapoints in ranges:
        assert {places[number].archive for number in datapoints} == {archive}
        assert (start, stop) == (places[datapoints[0]].start, places[datapoints[-1]].stop)
        assert stop - start <= limit or len(datapoints) == 1
        assert all(places[b].start - places[a].stop <= gap for a, b in pairwise(datapoints))


@pytest.mark.parametrize(("gap", "expected"), [(99, [[0], [1]]), (100, [[0, 1]]), (101, [[0, 1]])])
def test_datapoints_are_read_together_up_to_the_gap(gap: int, expected: list[list[int]]) -> None:
    places = [Place(0, 0, 50), Place(0, 150, 200)]
    assert [each.datapoints for each in planned(places, gap, 1000)] == expected


@pytest.mark.parametrize(("limit", "expected"), [(199, [[0], [1]]), (200, [[0, 1]])])
def test_a_range_is_at_most_the_limit(limit: int, expected: list[list[int]]) -> None:
    places = [Place(0, 0, 50), Place(0, 150, 200)]
    assert [each.datapoints for each in planned(places, 1000, limit)] == expected


def test_a_datapoint_above_the_limit_is_a_range_of_its_own() -> None:
    places = [Place(0, 0, 10), Place(0, 10, 500), Place(0, 500, 510), Place(0, 510, 520)]
    assert [each.datapoints for each in planned(places, 1000, 100)] == [[0], [1], [2, 3]]


def test_no_datapoints_need_no_ranges() -> None:
    assert planned([], 1000, 1000) == []


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50))), st.integers(0, 40), st.integers(1, 200))
def test_merged_ranges_cover_the_ranges_within_gap_and_limit(raw: list[tuple[int, int]], gap: int, limit: int) -> None:
    ranges = [range(start, start + length) for start, length in sorted(raw)]
    merged = list(reads.merge(ranges, gap, limit))
    covered = {byte for each in merged for byte in each}
    assert covered >= {byte for each in ranges for byte in each}
    for one, other in pairwise(merged):
        joined = max(one.stop, other.stop) - one.start
        assert other.start - one.stop > gap or joined > limit
    for each in ranges:
        assert any(whole.start <= each.start and each.stop <= whole.stop for whole in merged)
