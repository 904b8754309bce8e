"""collate: many samples as one batch, without a framework."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datas3t.client import InvalidArgument

_NUMBERS = (bool, int, float, complex, np.number, np.bool_)


def collate(samples: Sequence[Any]) -> Any:
    """Return samples as one batch, whose parts have the shape of a sample.

    Numbers become an array; arrays are stacked along a new first axis, and so are tensors of PyTorch. Dictionaries,
    tuples and lists become one of batches. All others, such as bytes, text and None, and values of different kinds,
    stay a list. This is what `torch.utils.data.default_collate` does, but with arrays of numpy, and it refuses nothing.

    Args:
        samples: The samples of the batch.

    Raises:
        InvalidArgument: Arrays have different shapes, or dictionaries or tuples different fields.

    Example:
        >>> collate([{"key": 3, "image": b"a"}, {"key": 4, "image": b"b"}])
        {'key': array([3, 4]), 'image': [b'a', b'b']}
    """
    torch = sys.modules.get("torch")  # a sample can only have tensors if it is loaded
    arrays = (np.ndarray,) if torch is None else (np.ndarray, torch.Tensor)
    if not samples:
        return []
    first = samples[0]
    if all(isinstance(each, arrays) and type(each) is type(first) for each in samples):
        _check_same([tuple(each.shape) for each in samples], "arrays have the shapes")
        return np.stack(samples) if torch is None or isinstance(first, np.ndarray) else torch.stack(list(samples))
    if all(isinstance(each, _NUMBERS) for each in samples):
        return np.array(samples)
    if all(isinstance(each, Mapping) for each in samples):
        _check_same([sorted(map(str, each)) for each in samples], "samples have the fields")
        return {name: collate([each[name] for each in samples]) for name in first}
    if all(type(each) is type(first) for each in samples) and isinstance(first, (tuple, list)):
        _check_same([len(each) for each in samples], "samples have these numbers of fields:")
        columns = [collate(column) for column in zip(*samples, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
    return list(samples)


def _check_same(values: list[Any], what: str) -> None:
    other = next((value for value in values if value != values[0]), None)
    if other is not None:
        raise InvalidArgument(
            f"{what} {values[0]} and {other}, so they are no batch; make them equal, or read single ones"
        )
