"""The checksums object: one 4-byte record per datapoint, in key order (docs/format.md, "Checksums").

bytes 0-3  CRC-32C (Castagnoli) of the content, 0 of an empty one    uint32, big-endian
"""

import struct
import sys
from array import array
from collections.abc import Callable, Iterable

from fastcrc.crc32 import iscsi

from datas3t.archive.index import Buffer

RECORD = struct.Struct(">I")
RECORD_SIZE = RECORD.size

crc: Callable[..., int] = iscsi
"""Return the CRC-32C of bytes, by `crc(content)`; `crc(rest, before)` continues the CRC `before`.

It is the library's own function, because it is called once for each datapoint. It does not copy a memoryview, and lets
other threads run while it reads a large one.
"""


def of_contents(body: Buffer, starts: Iterable[int], stops: Iterable[int]) -> bytes:
    """Return the records of many contents in `body`: of the bytes from each of `starts` up to that of `stops`."""
    contents = map(memoryview(body).__getitem__, map(slice, starts, stops))
    return encode(map(crc, contents))


def encode(crcs: Iterable[int]) -> bytes:
    """Return the records of these CRCs."""
    records = array("I", crcs)
    if sys.byteorder == "little":
        records.byteswap()
    return records.tobytes()


def decode(raw: Buffer) -> "array[int]":
    """Return the CRCs in whole records."""
    crcs = array("I", bytes(raw))
    if sys.byteorder == "little":
        crcs.byteswap()
    return crcs


def crc_at(raw: Buffer, number: int) -> int:
    """Return the CRC of one datapoint by its number, counted from 0."""
    value: int = RECORD.unpack_from(raw, number * RECORD_SIZE)[0]
    return value
