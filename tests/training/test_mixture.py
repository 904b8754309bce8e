"""Mixture: exact shares, each part in its order, any place at once."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.client import InvalidArgument, KeySet
from datas3t.training import Mixture

MIXED = Mixture({"a": 0.7, "b": 0.3}, 10**9, seed=5)


def test_each_period_has_exactly_its_shares() -> None:
    for period in (0, 1, 7, 99_999):
        parts = MIXED.take(period * 10_000, (period + 1) * 10_000).parts
        assert np.bincount(parts).tolist() == [7000, 3000]
    orders = [MIXED.take(start, start + 10_000).parts.tobytes() for start in (0, 10_000)]
    assert orders[0] != orders[1]


def test_shares_are_rounded_so_that_a_period_is_full() -> None:
    thirds = Mixture({"a": 1, "b": 1, "c": 1}, 10_000)
    assert thirds.counts(10_000) == {"a": 3334, "b": 3333, "c": 3333}
    rare = Mixture({"a": 1, "b": 1e-9, "c": 0}, 10_000)
    assert rare.counts(10_000) == {"a": 10_000, "b": 0, "c": 0}
    assert Mixture({"a": 0.1, "b": 0.7, "c": 0.2}, 10_000).counts(10_000) == {"a": 1000, "b": 7000, "c": 2000}


def test_parts_are_spread_evenly_over_a_period() -> None:
    parts = MIXED.take(0, 100_000).parts
    shares = parts.reshape(-1, 1000).mean(axis=1)
    assert abs(shares - 0.3).max() < 0.07


@settings(max_examples=15, deadline=None)
@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    changes=st.lists(
        st.tuples(st.integers(1, 30_000), st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)), max_size=3
    ),
    bounds=st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)),
)
def test_each_part_is_read_in_its_order_through_changes_of_the_weights(
    weights: list[int], changes: list[tuple[int, list[int]]], bounds: tuple[int, int]
) -> None:
    def named(values: list[int]) -> dict[str, float]:
        return {"abcde"[at]: value for at, value in enumerate(values)}

    mixture = Mixture(named(weights), 40_000, seed=1)
    for at, changed in sorted(dict(changes).items()):
        earlier, mixture = mixture, mixture.changed(at, named(changed))
        before = mixture.take(0, at)
        assert np.array_equal(earlier.take(0, at).parts, before.parts)
        assert np.array_equal(earlier.take(0, at).places, before.places)
    parts, places = mixture.take(0, 40_000)
    for number, name in enumerate(mixture.names):
        chosen = places[parts == number]
        assert np.array_equal(chosen, np.arange(len(chosen)))
        assert mixture.counts(40_000)[name] == len(chosen)
        assert mixture.counts(bounds[0])[name] == np.count_nonzero(parts[: bounds[0]] == number)
    start, stop = sorted(bounds)
    some = mixture.take(start, stop)
    assert np.array_equal(some.parts, parts[start:stop])
    assert np.array_equal(some.places, places[start:stop])
    again = Mixture.of(json.loads(json.dumps(mixture.description)))
    assert again.description == mixture.description
    assert np.array_equal(again.take(start, stop).parts, some.parts)


def test_weights_change_at_the_stated_place() -> None:
    changed = MIXED.changed(25_000, {"b": 1, "c": 1})
    assert changed.names == ("a", "b", "c")
    counts = changed.counts(25_000)
    assert counts["c"] == 0
    assert changed.counts(35_000) == {"a": counts["a"], "b": counts["b"] + 5000, "c": 5000}
    for at in (0, 25_000, 10**9 + 1):
        with pytest.raises(InvalidArgument, match="behind place 25000"):
            changed.changed(at, {"a": 1})


def test_keys_of_each_part_are_read_once_before_any_is_read_again() -> None:
    sets = {"a": KeySet(range(100, 9_100)), "b": KeySet(range(0, 8_000, 2))}
    parts, keys = MIXED.keys(0, 20_000, sets)
    for number, name in enumerate("ab"):
        read, count = keys[parts == number], len(sets[name])
        assert sorted(read[:count]) == list(sets[name])
        again = read[count:]
        assert len(np.unique(again)) == min(len(again), count)
        assert not np.array_equal(read[: len(again)], again)
    some = MIXED.keys(12_345, 12_400, sets)
    assert np.array_equal(some[1], keys[12_345:12_400])
    with pytest.raises(InvalidArgument, match="'b', of which there are no keys"):
        MIXED.keys(0, 100, {"a": sets["a"], "b": KeySet()})


def test_a_place_far_away_is_at_once() -> None:
    far = Mixture({"a": 2, "b": 1}, 2**50).take(2**49, 2**49 + 512)
    assert abs(int(far.places[far.parts == 0][0]) / 2**49 - 2 / 3) < 1e-3


@pytest.mark.parametrize(
    "weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("nan")}, {"a": float("inf")}, {"a": 1, "b": float("nan")}]
)
def test_weights_that_are_no_shares_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        Mixture(weights, 10)


@pytest.mark.parametrize("description", [{}, [], {"version": 2, "length": 1, "seed": 0, "weights": [[0, {"a": 1}]]}])
def test_what_describes_no_mixture_is_refused(description: object) -> None:
    with pytest.raises(InvalidArgument):
        Mixture.of(description)  # type: ignore[arg-type]


def test_places_outside_are_refused() -> None:
    small = Mixture({"a": 1}, 10)
    for start, stop in ((-1, 2), (3, 2), (0, 11)):
        with pytest.raises(InvalidArgument):
            small.take(start, stop)
    with pytest.raises(InvalidArgument):
        small.counts(11)
    assert len(Mixture({"a": 1}, 0).take(0, 0).parts) == 0
