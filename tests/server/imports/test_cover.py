"""The choice among overlapping archives, compared with trying every set."""

import random
from itertools import combinations, pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from datas3t.server.imports.cover import best_cover, find_overlapping


class Span(NamedTuple):
    first: int
    last: int
    counter: int


def spans(most: int) -> st.SearchStrategy[list[Span]]:
    one = st.builds(
        lambda first, more, counter: Span(first, first + more, counter),
        st.integers(0, 12),
        st.integers(0, 8),
        st.integers(1, 9),
    )
    return st.lists(one, max_size=most, unique=True)


def without_overlaps(chosen: tuple[Span, ...] | list[Span]) -> bool:
    ordered = sorted(chosen)
    return all(one.last < other.first for one, other in pairwise(ordered))


def value(chosen: tuple[Span, ...] | list[Span]) -> tuple[int, int, int]:
    return sum(each.last - each.first + 1 for each in chosen), -len(chosen), sum(each.counter for each in chosen)


@given(spans(8))
def test_no_other_set_without_overlaps_is_better(given_spans: list[Span]) -> None:
    chosen = best_cover(given_spans)
    assert without_overlaps(chosen)
    assert chosen == sorted(chosen)
    sets = (each for size in range(len(given_spans) + 1) for each in combinations(given_spans, size))
    assert value(chosen) == max(value(each) for each in sets if without_overlaps(each))


@given(spans(12), st.integers())
def test_the_order_of_the_spans_does_not_matter(given_spans: list[Span], seed: int) -> None:
    shuffled = random.Random(seed).sample(given_spans, len(given_spans))
    assert best_cover(shuffled) == best_cover(given_spans)


@given(spans(12))
def test_every_span_that_is_not_chosen_overlaps_a_chosen_one(given_spans: list[Span]) -> None:
    chosen = best_cover(given_spans)
    for each in given_spans:
        other = find_overlapping(chosen, each)
        assert other is not None
        assert other.first <= each.last
        assert each.first <= other.last


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.randoms())
def test_an_aggregate_is_preferred_to_its_sources_which_replace_it_if_it_is_missing(
    sizes: list[int], order: random.Random
) -> None:
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    sources = [Span(start, start + size - 1, n) for n, (start, size) in enumerate(zip(starts, sizes, strict=True), 1)]
    aggregate = Span(0, sum(sizes) - 1, len(sizes) + 1)
    all_spans = [*sources, aggregate]
    order.shuffle(all_spans)
    assert best_cover(all_spans) == [aggregate]
    assert best_cover([each for each in all_spans if each is not aggregate]) == sources


def test_the_highest_counter_wins_among_spans_with_the_same_keys() -> None:
    assert best_cover([Span(1, 9, 3), Span(1, 9, 7), Span(1, 9, 5)]) == [Span(1, 9, 7)]


def test_the_greatest_keys_are_covered() -> None:
    most = (1 << 63) - 1
    assert best_cover([Span(0, most, 1), Span(most, most, 2)]) == [Span(0, most, 1)]
    assert find_overlapping([Span(0, most, 1)], Span(most, most, 2)) == Span(0, most, 1)


def test_a_cover_of_a_hundred_thousand_spans_is_fast() -> None:
    many = [Span(10 * n, 10 * n + 14, n + 1) for n in range(100_000)]
    assert len(best_cover(many)) == 50_000
