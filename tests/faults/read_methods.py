"""The methods that read datapoints, each as a function that skips keys that no longer exist.

Each takes a handle and ascending keys, and returns the contents that it found, by key.
"""

import contextlib
from collections.abc import Callable, Mapping

from datas3t.client import DatapointNotFound, Datas3t


def by_get(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    """Read one key at a time."""
    contents = {}
    for key in keys:
        with contextlib.suppress(DatapointNotFound):
            contents[key] = handle.get(key)
    return contents


def by_get_many(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    """Read all keys in one call, repeated without a key that it does not find."""
    left = list(keys)
    while left:
        try:
            return dict(zip(left, handle.get_many(left), strict=True))
        except DatapointNotFound as error:
            if error.key not in left:
                raise
            left.remove(error.key)
    return {}


def by_scan(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    """Scan from the first key over a quarter of them, so that scans do not get too long, and get the others."""
    few = keys[: max(1, len(keys) // 4)]
    contents = {each.key: each.content for each in handle.scan(few[0], few[-1])}
    return contents | by_get(handle, keys[len(few) :])


READ_METHODS: Mapping[str, Callable[[Datas3t, list[int]], dict[int, bytes]]] = {
    "get": by_get,
    "get_many": by_get_many,
    "scan": by_scan,
}
