"""Order: each position once, mixed well, at once, at any length."""

from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datas3t.client import InvalidArgument
from datas3t.training import Order, Windows
from datas3t.training.permutation import SORTED

LENGTHS = [0, 1, 2, 3, 5, 31, 32, 33, 997, 2**12 - 1, 2**12, 2**12 + 1, 2**14 - 1, 2**14, 2**14 + 1, 10_007]
ORDERS = [("global", 1, 1), ("window", 1024, 512), ("window", 64, 8), ("none", 1, 1)]


@pytest.mark.parametrize(("shuffle", "block", "window"), ORDERS)
@pytest.mark.parametrize("length", LENGTHS)
def test_an_epoch_has_each_position_once(length: int, shuffle: str, block: int, window: int) -> None:
    order = Order(length, 5, shuffle, block, window)  # type: ignore[arg-type]
    for epoch in (0, 1):
        positions = order.take(epoch, 0, length)
        assert positions.dtype == np.int64
        assert np.array_equal(np.sort(positions), np.arange(length))
        assert np.array_equal(order.places(epoch, positions), np.arange(length))


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 2000) | st.integers(SORTED - 3, SORTED + 200) | st.integers(2**30, 2**62),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
    shuffle=st.sampled_from(["global", "window", "none"]),
    block=st.integers(1, 50),
    window=st.integers(1, 50),
    data=st.data(),
)
def test_any_part_is_that_of_the_whole_and_can_be_inverted(
    length: int, seed: int, epoch: int, shuffle: str, block: int, window: int, data: st.DataObject
) -> None:
    order = Order(length, seed, shuffle, block, window)  # type: ignore[arg-type]
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, min(start + 60, length)))
    positions = order.take(epoch, start, stop)
    assert order.places(epoch, positions).tolist() == list(range(start, stop))
    if length < 5000:
        assert np.array_equal(order.take(epoch, 0, length)[start:stop], positions)


def misfit(counts: NDArray[np.int64]) -> float:
    """Return by how many standard deviations chi-square is off that of equal chances."""
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    return abs(float(((counts - expected) ** 2 / expected).sum()) - freedom) / sqrt(2 * freedom)


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_all_orders_of_a_few_positions_are_equally_frequent(length: int) -> None:
    tries = 20 * factorial(length) + 1000
    by_epoch = [Order(length, 1).take(epoch, 0, length) for epoch in range(tries)]
    by_seed = [Order(length, seed).take(1, 0, length) for seed in range(tries)]
    for orders in (by_epoch, by_seed):
        codes = np.array(orders) @ length ** np.arange(length)
        counts = np.unique(codes, return_counts=True)[1]
        assert len(counts) == factorial(length)
        assert misfit(counts) < 4


@pytest.mark.parametrize("length", [64, SORTED + 1, 2**13, 10_007, 10**9])
def test_positions_are_uniform_and_independent_between_epochs_seeds_and_neighbours(length: int) -> None:
    def cells(order: Order, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return order.at(epoch, places) * 8 // length  # which eighth of the keys

    places = np.random.default_rng(1).integers(0, length - 1, 40_000) if length > 100_000 else np.arange(length - 1)
    repeats = range(max(1, 40_000 // len(places)))
    pairs = {"epochs": np.zeros(64, np.int64), "seeds": np.zeros(64, np.int64), "neighbours": np.zeros(64, np.int64)}
    for repeat in repeats:
        one = cells(Order(length, 3 * repeat), 2 * repeat, places)
        others = {
            "epochs": cells(Order(length, 3 * repeat), 2 * repeat + 1, places),
            "seeds": cells(Order(length, 3 * repeat + 1), 2 * repeat, places),
            "neighbours": cells(Order(length, 3 * repeat), 2 * repeat, places + 1),
        }
        for name, other in others.items():
            pairs[name] += np.bincount(one * 8 + other, minlength=64)
    if length == 64:  # neighbours are never equal there, which so few positions show
        del pairs["neighbours"]
    assert {name: misfit(counts) for name, counts in pairs.items() if misfit(counts) > 4} == {}


def test_a_billion_positions_take_no_memory_and_any_place_is_at_once() -> None:
    for shuffle in ("global", "window"):
        order = Order(10**9, 1, shuffle)
        for start in (0, 730_000_000, 10**9 - 256):
            positions = order.take(9, start, start + 256)
            assert len(np.unique(positions)) == 256
            assert order.places(9, positions).tolist() == list(range(start, start + 256))


def test_a_window_has_the_samples_of_its_blocks() -> None:
    order = Order(100_003, 3, "window", 100, 16)
    for epoch in (0, 1):
        windows, stop = Windows(order, epoch), 0
        for number in range(windows.count):
            start, stop = windows.bounds(number)[0], windows.bounds(number)[1]
            runs = windows.runs(number)
            assert len(runs) <= 16
            samples = np.concatenate([np.arange(first, last + 1) for first, last in runs])
            assert np.array_equal(np.sort(order.take(epoch, start, stop)), samples)
        assert stop == 100_003


def test_the_last_block_is_not_always_read_last() -> None:
    order = Order(1001, 1, "window", 100, 2)
    assert len({int(order.places(epoch, 1000)) // 100 for epoch in range(20)}) > 5


def test_orders_of_similar_lengths_are_different() -> None:
    one, other = Order(10_000, 1).take(0, 0, 9000), Order(10_001, 1).take(0, 0, 9000)
    assert np.count_nonzero(one == other) < 20


def test_places_are_counted_on_through_epochs() -> None:
    order = Order(7, 1)
    expected = np.concatenate([order.take(epoch, 0, 7) for epoch in range(4)])
    assert np.array_equal(order.endless(np.arange(28)), expected)
    assert np.array_equal(order.endless([27, 0, 13]), expected[[27, 0, 13]])
    with pytest.raises(InvalidArgument):
        Order(0).endless([0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Order(-1),
        lambda: Order(2**62 + 1),
        lambda: Order(1, -1),
        lambda: Order(1, 2**64),
        lambda: Order(1, 0, "full"),  # type: ignore[arg-type]
        lambda: Order(1, 0, "window", 0),
        lambda: Order(1, 0, "window", 1, 0),
        lambda: Order(5).take(0, 0, 6),
        lambda: Order(5).take(0, 3, 2),
        lambda: Order(5).take(0, -1, 2),
        lambda: Order(5).take(-1, 0, 2),
        lambda: Order(5).at(0, [5]),
        lambda: Order(5).places(0, [-1]),
    ],
)
def test_what_is_out_of_range_is_refused(make: object) -> None:
    with pytest.raises(InvalidArgument):
        make()  # type: ignore[operator]
