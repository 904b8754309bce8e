"""The vectors of docs/training-order.md are those of the code, and of another program written from the page."""

import re
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.client import KeySet
from datas3t.training import Batches, Mixture, Order
from tests.training import reference

PAGE = (Path(__file__).parents[2] / "docs/training-order.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| [\d.]+ ", line)
]


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split()]


def rows(columns: int) -> list[list[str]]:
    found = [row for row in ROWS if len(row) == columns and "." not in row[0]]
    assert found
    return found


def test_the_hashes_are_those_of_the_page() -> None:
    for call, value in re.findall(r"^\| `(.+)` \| `(0x[0-9a-f]+)` \|$", PAGE, re.MULTILINE):
        names = {"mix": reference.mix, "key": reference.key, "stream": reference.stream, "STEP": reference.STEP}
        assert hex(eval(call, names)) == value


def test_global_orders_are_those_of_the_page() -> None:
    for length, seed, epoch, first, positions in rows(5):
        order, start = Order(int(length), int(seed)), int(first)
        taken = order.take(int(epoch), start, start + len(numbers(positions)))
        assert taken.tolist() == numbers(positions)


def test_windows_are_those_of_the_page() -> None:
    for length, seed, epoch, block, window, first, positions in rows(7):
        order = Order(int(length), int(seed), "window", int(block), int(window))
        start = int(first)
        assert order.take(int(epoch), start, start + len(numbers(positions))).tolist() == numbers(positions)


def test_mixtures_are_those_of_the_page() -> None:
    found = [row for row in ROWS if "." in row[0]]
    assert found
    for weights, seed, first, parts, samples in found:
        mixture = Mixture({str(at): float(each) for at, each in enumerate(weights.split())}, 10**6, int(seed))
        mixed = mixture.take(int(first), int(first) + len(numbers(parts)))
        assert mixed.parts.tolist() == numbers(parts)
        assert mixed.places.tolist() == numbers(samples)


def test_the_state_is_that_of_the_page() -> None:
    documented = re.search(r"```json\n(.+)\n```", PAGE)
    assert documented is not None
    keys = KeySet(range(10))
    batches = Batches(keys, 2, seed=7)
    batches.set_epoch(3)
    iterator = iter(batches)
    next(iterator), next(iterator)
    assert str(batches.state_dict()).replace("'", '"') == documented[1].replace("<digest>", keys.digest)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 300) | st.integers(4000, 4200) | st.integers(2**40, 2**62),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_another_program_has_the_same_global_order(length: int, seed: int, epoch: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=3))
    expected = [reference.global_position(length, seed, epoch, place) for place in places]
    assert Order(length, seed).at(epoch, places).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 120),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 9),
    block=st.integers(1, 12),
    window=st.integers(1, 9),
)
def test_another_program_has_the_same_windows(length: int, seed: int, epoch: int, block: int, window: int) -> None:
    order = Order(length, seed, "window", block, window)
    expected = reference.window_positions(length, seed, epoch, block, window)
    assert order.take(epoch, 0, length).tolist() == expected
    assert order.places(epoch, expected).tolist() == list(range(length))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), place=st.integers(0, 10**9), share=st.integers(1, 9999))
def test_another_program_has_the_same_mixture(seed: int, place: int, share: int) -> None:
    mixture = Mixture({"a": share, "b": 10_000 - share}, 10**9 + 1, seed)
    part = reference.mixture_part([share, 10_000 - share], seed, 0, place)
    assert mixture.take(place, place + 1).parts.tolist() == [part]
    assert np.array_equal(mixture.take(place, place + 1).places, [mixture.counts(place)["ab"[part]]])
