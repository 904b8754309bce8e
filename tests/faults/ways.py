"""The ways to read keys some of which may not be there any more: what was found, by key."""

import contextlib
from collections.abc import Callable, Mapping

from datas3t.client import DatapointNotFound, Datas3t


def by_get(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    found = {}
    for key in keys:
        with contextlib.suppress(DatapointNotFound):
            found[key] = handle.get(key)
    return found


def by_get_many(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    there = list(keys)
    while there:
        try:
            return dict(zip(there, handle.get_many(there), strict=True))
        except DatapointNotFound as error:
            there.remove(error.key)
    return {}


def by_scan(handle: Datas3t, keys: list[int]) -> dict[int, bytes]:
    """All there is between a quarter of the keys: scans that are not too long."""
    few = keys[: max(1, len(keys) // 4)]
    found = {each.key: each.content for each in handle.scan(few[0], few[-1])}
    return found | by_get(handle, keys[len(few) :])


WAYS: Mapping[str, Callable[[Datas3t, list[int]], dict[int, bytes]]] = {
    "get": by_get,
    "get_many": by_get_many,
    "scan": by_scan,
}
