"""The runs of keys in a bitmap, read from its serialised form: a bitmap of a billion keys has few of them."""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

_NO_RUNS, _RUNS = 12346, 12347  # how a 32-bit bitmap begins, without and with containers of runs
_MAX_ARRAY = 4096  # keys of a container that are stored as numbers; more are stored as bits
_NO_OFFSETS = 4  # a bitmap with runs and fewer containers has no table of offsets

Keys = NDArray[np.int64]


def spans_of_bitmap(bitmap: BitMap64) -> tuple[Keys, Keys]:
    """Return the first and the last key of each run of keys, ascending. All keys must be below 2^63."""
    compact = BitMap64(bitmap)
    compact.run_optimize()
    parts = list(_parts(compact.serialize()))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    firsts, lasts = (np.concatenate(each) for each in zip(*parts, strict=True))
    # A run may go on in the next container.
    apart = firsts[1:] - 1 != lasts[:-1]
    return firsts[np.concatenate(([True], apart))], lasts[np.append(apart, True)]


def _parts(raw: bytes) -> Iterator[tuple[Keys, Keys]]:
    """Yield the runs of each container: https://github.com/RoaringBitmap/RoaringFormatSpec."""
    (buckets,) = struct.unpack_from("<Q", raw)
    at = 8
    for _ in range(buckets):
        (high,) = struct.unpack_from("<I", raw, at)
        at += 4
        (cookie,) = struct.unpack_from("<I", raw, at)
        if cookie & 0xFFFF == _RUNS:
            count = (cookie >> 16) + 1
            flags = np.unpackbits(np.frombuffer(raw, np.uint8, (count + 7) // 8, at + 4), bitorder="little")
            at += 4 + (count + 7) // 8
        else:
            assert cookie == _NO_RUNS
            (count,) = struct.unpack_from("<I", raw, at + 4)
            flags = np.zeros(count, np.uint8)
            at += 8
        heads = np.frombuffer(raw, "<u2", 2 * count, at).reshape(-1, 2).tolist()
        at += 4 * count
        if cookie == _NO_RUNS or count >= _NO_OFFSETS:
            at += 4 * count  # the offsets; the containers follow each other anyway
        for (middle, cardinality), is_runs in zip(heads, flags.tolist(), strict=False):
            base = (high << 32) | (middle << 16)
            if is_runs:
                (runs,) = struct.unpack_from("<H", raw, at)
                pairs = np.frombuffer(raw, "<u2", 2 * runs, at + 2).reshape(-1, 2).astype(np.int64)
                at += 2 + 4 * runs
                yield base + pairs[:, 0], base + pairs[:, 0] + pairs[:, 1]
            elif cardinality + 1 > _MAX_ARRAY:
                bits = np.unpackbits(np.frombuffer(raw, np.uint8, 8192, at), bitorder="little")
                at += 8192
                yield _runs(base + np.flatnonzero(bits))
            else:
                keys = np.frombuffer(raw, "<u2", cardinality + 1, at).astype(np.int64)
                at += 2 * (cardinality + 1)
                yield _runs(base + keys)


def _runs(keys: Keys) -> tuple[Keys, Keys]:
    apart = np.diff(keys) != 1
    return keys[np.concatenate(([True], apart))], keys[np.append(apart, True)]
