"""collate: samples as a batch, without a framework."""

from typing import Any

import numpy as np
import pytest

from datas3t.client import Datapoint, InvalidArgument
from datas3t.training import collate


def test_numbers_and_arrays_become_arrays() -> None:
    for values, dtype in (([1, 2], np.int64), ([1.5, 2], np.float64), ([True, False], np.bool_)):
        batch = collate(values)
        assert batch.dtype == dtype
        assert batch.tolist() == values
    assert collate([np.float32(1), np.float32(2)]).dtype == np.float32
    pixels = [np.full((2, 3), value, np.uint8) for value in (1, 2)]
    assert np.array_equal(collate(pixels), np.stack(pixels))


def test_all_else_stays_a_list() -> None:
    values: list[list[Any]] = [[b"a", b"bc"], ["a", "b"], [None, None], [1, None], [b"a", None], [{1}, {2}], [1, "a"]]
    for value in values:
        assert collate(value) == value
    assert collate([]) == []


def test_structures_become_structures_of_batches() -> None:
    batch = collate([{"key": 1, "both": (b"a", [1.0])}, {"key": 2, "both": (b"b", [2.0])}])
    assert batch["key"].tolist() == [1, 2]
    assert type(batch["both"]) is tuple
    assert batch["both"][0] == [b"a", b"b"]
    assert batch["both"][1][0].tolist() == [1.0, 2.0]
    datapoints = collate([Datapoint(1, "1.jpg", b"a"), Datapoint(2, "2.jpg", b"b")])
    assert datapoints[2] == [b"a", b"b"]
    assert type(datapoints) is Datapoint


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([np.zeros(2), np.zeros(3)], r"shapes \(2,\) and \(3,\)"),
        ([{"a": 1}, {"b": 1}], "fields"),
        ([(1, 2), (1,)], "numbers of fields: 2 and 1"),
    ],
)
def test_samples_that_are_no_batch_are_refused(samples: list[Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        collate(samples)
