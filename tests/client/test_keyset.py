"""KeySet against a plain sorted list, and its size."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from datas3t.archive.names import MAX_KEY
from datas3t.client import DatapointNotFound, InvalidArgument, KeySet

edges = st.one_of(
    st.integers(0, 40),
    st.integers(65_500, 65_600),
    st.integers(2**32 - 20, 2**32 + 20),
    st.integers(MAX_KEY - 20, MAX_KEY),
)
sets = st.lists(st.tuples(edges, st.integers(0, 8)), max_size=12).map(
    lambda spans: {key for first, count in spans for key in range(first, min(first + count, MAX_KEY) + 1)}
)


@settings(max_examples=60, deadline=None)
@given(keys=sets, other=sets, data=st.data())
def test_a_set_is_the_sorted_list_of_its_keys(keys: set[int], other: set[int], data: st.DataObject) -> None:
    keyset, ordered = KeySet(keys), sorted(keys)
    assert list(keyset) == ordered
    assert list(reversed(keyset)) == ordered[::-1]
    assert len(keyset) == len(ordered)
    assert bool(keyset) == bool(ordered)
    assert all((key in keyset) == (key in keys) for key in other | {0, MAX_KEY, -1, 2**63})
    assert keyset.mask(sorted(other)).tolist() == [key in keys for key in sorted(other)]
    assert KeySet.of(BitMap64(keys)) == keyset
    assert KeySet.of(keyset.spans) == keyset
    assert pickle.loads(pickle.dumps(keyset)) == keyset
    for combined, expected in (
        (keyset & KeySet(other), keys & other),
        (keyset | KeySet(other), keys | other),
        (keyset - KeySet(other), keys - other),
        (keyset ^ BitMap64(other), keys ^ other),
    ):
        assert list(combined) == sorted(expected)
        assert combined == KeySet(expected)
        assert hash(combined) == hash(KeySet(expected))
        assert combined.digest == KeySet(expected).digest
    for first, last in ((0, MAX_KEY), (7, 65_550), (30, 2), (-5, 2**64), (MAX_KEY, MAX_KEY)):
        assert list(keyset.within(first, last)) == [key for key in ordered if first <= key <= last]
    bound = st.none() | st.integers(-len(keys) - 2, len(keys) + 2)
    chosen = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, -1])))
    assert list(keyset[chosen]) == sorted(ordered[chosen])
    if ordered:
        positions = data.draw(st.lists(st.integers(-len(ordered), len(ordered) - 1), max_size=10))
        taken = keyset.take(positions).tolist()
        assert taken == [ordered[position] for position in positions]
        assert keyset.positions(taken).tolist() == [position % len(ordered) for position in positions]
        assert keyset[-1] == ordered[-1]


def test_a_million_spans_of_a_billion_keys_take_16_bytes_each() -> None:
    firsts = np.arange(1_000_000, dtype=np.int64) * 2000
    keyset = KeySet._of_arrays(firsts, firsts + 999)
    assert len(keyset) == 1_000_000_000
    assert len(pickle.dumps(keyset)) < 17 * 1_000_000
    positions = np.random.default_rng(1).integers(0, len(keyset), 100_000)
    assert np.array_equal(keyset.positions(keyset.take(positions)), positions)


def test_a_bitmap_with_runs_arrays_and_bits_has_its_spans() -> None:
    bitmap = BitMap64()
    bitmap.add_range(5, 200_000)  # a run over several containers
    bitmap.update(range(300_000, 360_000, 2))  # bits
    bitmap.update((2**40, 2**40 + 1, 2**40 + 7, MAX_KEY))
    expected = [(5, 199_999), *((key, key) for key in range(300_000, 360_000, 2))]
    assert KeySet.of(bitmap).spans == [*expected, (2**40, 2**40 + 1), (2**40 + 7, 2**40 + 7), (MAX_KEY, MAX_KEY)]
    assert len(bitmap) == len(KeySet.of(bitmap))


def test_a_split_has_each_key_once_and_stays_when_keys_are_added() -> None:
    small, large = KeySet(range(10_000)), KeySet(range(5_000, 40_000))
    train, test = small.split([0.8, 0.2], seed=7)
    assert train | test == small
    assert not train & test
    assert 0.78 < len(train) / len(small) < 0.82
    later_train, _ = large.split([0.8, 0.2], seed=7)
    assert later_train & small == train & large
    assert small.split([0.8, 0.2], seed=8)[0] != train
    assert small.split([], seed=1) == []
    (half,) = small.split([0.5], seed=1)
    assert 0.45 < len(half) / len(small) < 0.55


def test_the_split_of_a_key_never_changes() -> None:
    assert list(KeySet(range(20)).split([0.5, 0.5], seed=1)[0]) == [0, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 18, 19]


def test_what_is_no_set_of_keys_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="0 to 2\\^63-1"):
        KeySet([-1])
    with pytest.raises(InvalidArgument, match="0 to 2\\^63-1"):
        KeySet([2**63])
    with pytest.raises(InvalidArgument, match="5 to 4 is not a span"):
        KeySet.of([(5, 4)])
    with pytest.raises(InvalidArgument, match="too large"):
        KeySet.of([(0, MAX_KEY)])
    with pytest.raises(InvalidArgument, match="at most 1 together"):
        KeySet([1]).split([0.8, 0.3], seed=1)


def test_what_is_not_in_the_set_is_named() -> None:
    keyset = KeySet([1, 2, 9])
    with pytest.raises(DatapointNotFound, match="no key 5") as caught:
        keyset.positions([1, 5, 6])
    assert caught.value.key == 5
    with pytest.raises(IndexError, match="position 3 is outside of a set of 3 keys"):
        keyset.take([0, 3])
    with pytest.raises(IndexError):
        keyset[-4]
    no_key: object = "text"
    assert no_key not in keyset
    assert repr(keyset) == "KeySet(1-2, 9; 3 keys)"
