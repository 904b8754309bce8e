"""The seal of a table's file: checksums of every byte that is read of it, between the last column and the footer.

Page checksums, which Parquet has itself, cover the values but neither the headers of the pages nor the footer with the
names and places of the columns. Readers of Parquet skip what is between. docs/format.md, "Tables", has the layout:

    4 bytes   CRC-32C of the footer                                            uint32, big-endian, as all that follow
    4 bytes   for each row group and each of its columns, in their order: CRC-32C of the column's bytes
    4 bytes   CRC-32C of everything before
    8 bytes   "d3tseal1"

The footer's metadata has the key `datas3t.seal`, so that a file whose seal was damaged is not taken for one without.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from datas3t.archive.checksums import crc
from datas3t.client._tables.arrow import pa, pq

MAGIC = b"d3tseal1"
METADATA = {b"datas3t.seal": b"1"}
TAIL = 8  # bytes behind the footer: its length, and "PAR1"
MAX_FOOTER = 64 << 20  # bytes; one of a million columns in all row groups has less
_READ_AT_ONCE = 1 << 20  # bytes
_PARQUET = b"PAR1"


class Damaged(Exception):  # noqa: N818 - named after what is wrong; becomes a TableError that names the file
    """Bytes of a table's file are not what was written, or no Parquet."""


class Footer(NamedTuple):
    """The parsed footer of a file.

    Attributes:
        metadata: What Parquet says.
        raw: Its bytes, and those behind it.
        checksums: The CRC-32C of each column of each row group, row group by row group; None in a file without seal.
        size: The bytes that it takes in the file, the seal included.
    """

    metadata: pq.FileMetaData
    raw: bytes
    checksums: "np.ndarray[tuple[int], np.dtype[np.uint32]] | None"
    size: int


def column_bytes(column: pq.ColumnChunkMetaData) -> range:
    """Return where in the file a column of a row group is."""
    start = column.data_page_offset
    if column.dictionary_page_offset is not None and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    return range(start, start + column.total_compressed_size)


def chunks(metadata: pq.FileMetaData) -> Iterator[range]:
    """Yield where each column of each row group is."""
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        yield from (column_bytes(row_group.column(number)) for number in range(row_group.num_columns))


def add(file: BinaryIO) -> int:
    """Add the seal to a complete Parquet file, which may be read and written, and return the new size."""
    size = file.seek(0, 2)
    file.seek(size - TAIL)
    tail = file.read(TAIL)
    footer_size = int.from_bytes(tail[:4], "little")
    file.seek(size - TAIL - footer_size)
    footer = file.read(footer_size)
    metadata = pq.read_metadata(file)
    checksums = [crc(footer), *(_crc_of(file, place) for place in chunks(metadata))]
    block = np.array(checksums, ">u4").tobytes()
    file.seek(size - TAIL - footer_size)
    file.write(block + crc(block).to_bytes(4, "big") + MAGIC + footer + tail)
    return file.tell()


def _crc_of(file: BinaryIO, place: range) -> int:
    value = 0
    file.seek(place.start)
    for at in range(place.start, place.stop, _READ_AT_ONCE):
        value = crc(file.read(min(_READ_AT_ONCE, place.stop - at)), value)
    return value


def footer_size(tail: bytes) -> int:
    """Return the size of the footer, without the seal, given the last bytes of a file.

    Raises:
        Damaged: It is no Parquet file, or its footer is larger than any of ours.
    """
    size = int.from_bytes(tail[-TAIL:-4], "little")
    if tail[-4:] != _PARQUET:
        raise Damaged("it does not end as a Parquet file does")
    if size > MAX_FOOTER:
        raise Damaged(f"its footer has {size} bytes, and at most {MAX_FOOTER} are read")
    return size


def opened(tail: bytes, file_size: int) -> Footer | int:
    """Return the footer in the last bytes of a file, or how many bytes are needed if these are too few.

    Raises:
        Damaged: The footer is not what was written.
    """
    size = footer_size(tail) + TAIL
    if size + 12 > file_size:
        raise Damaged("its footer is larger than the file")
    if size > len(tail):
        return size
    footer = tail[len(tail) - size : -TAIL]
    metadata = _parsed(footer, tail[-TAIL:])
    if METADATA.keys() - (metadata.metadata or {}).keys():
        _check_places(metadata, file_size - size)
        return Footer(metadata, footer + tail[-TAIL:], None, size)
    count: int = metadata.num_row_groups * metadata.num_columns
    sealed: int = size + 4 * (count + 2) + len(MAGIC)
    if sealed + 4 > file_size:
        raise Damaged("its seal is larger than the file")
    if sealed > len(tail):
        return sealed
    seal = tail[len(tail) - sealed : len(tail) - size]
    block, check, magic = seal[: -4 - len(MAGIC)], seal[-4 - len(MAGIC) : -len(MAGIC)], seal[-len(MAGIC) :]
    if magic != MAGIC or crc(block) != int.from_bytes(check, "big"):
        raise Damaged("its checksums are damaged")
    checksums = np.frombuffer(block, ">u4").astype(np.uint32)
    if crc(footer) != checksums[0]:
        raise Damaged("its footer does not have the checksum that it was written with")
    _check_places(metadata, file_size - sealed)
    return Footer(metadata, footer + tail[-TAIL:], checksums[1:], sealed)


def _parsed(footer: bytes, tail: bytes) -> pq.FileMetaData:
    """Return the metadata in a footer; only the start of a Parquet file is missing for pyarrow to read it."""
    limit = len(footer) + 1024
    try:
        return pq.ParquetFile(
            pa.BufferReader(_PARQUET + footer + tail),
            pre_buffer=False,
            thrift_string_size_limit=limit,
            thrift_container_size_limit=limit,
        ).metadata
    except (pa.ArrowException, OSError, ValueError, UnicodeError) as error:
        raise Damaged(f"its footer cannot be read: {' '.join(str(error).split())}") from None


def _check_places(metadata: pq.FileMetaData, end: int) -> None:
    """Raise Damaged if a column is said to lie outside of the file's data."""
    for place in chunks(metadata):
        if not 4 <= place.start <= place.stop <= end:
            raise Damaged(f"a column is said to be at bytes {place.start} to {place.stop}, outside of its data")
