"""Records in a file that grows: one that a crash has cut short, at any byte, is read up to its last whole record.

Numbers are big-endian. A record is

    4 bytes   size of the first part
    4 bytes   size of the second part
    4 bytes   CRC-32 of both sizes and both parts
    the first part, JSON, and the second part, any bytes
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

_SIZES = struct.Struct(">II")
_CRC = struct.Struct(">I")
_HEAD_SIZE = _SIZES.size + _CRC.size
_MAX_SIZE = 1 << 31  # bytes of both parts; larger sizes are damaged


class Record(NamedTuple):
    """A record.

    Attributes:
        about: The first part, a list of JSON values.
        blob: The second part.
        stop: The byte of the file after the record.
    """

    about: list[Any]
    blob: bytes
    stop: int


def encode(about: Sequence[object], blob: bytes = b"") -> bytes:
    """Return the bytes of a record."""
    text = json.dumps(about, separators=(",", ":")).encode()
    sizes = _SIZES.pack(len(text), len(blob))
    return b"".join((sizes, _CRC.pack(zlib.crc32(blob, zlib.crc32(text, zlib.crc32(sizes)))), text, blob))


def read(file: BinaryIO) -> Iterator[Record]:
    """Yield the records of a file, up to the first that is not whole."""
    stop = 0
    while len(head := file.read(_HEAD_SIZE)) == _HEAD_SIZE:
        text_size, blob_size = _SIZES.unpack_from(head)
        size = text_size + blob_size
        if size > _MAX_SIZE or len(body := file.read(size)) != size:
            return
        if zlib.crc32(body, zlib.crc32(head[: _SIZES.size])) != _CRC.unpack_from(head, _SIZES.size)[0]:
            return
        stop += _HEAD_SIZE + size
        yield Record(json.loads(body[:text_size]), body[text_size:], stop)
