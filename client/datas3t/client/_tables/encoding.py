"""Writes the Parquet files of tables: rows by ascending key, in row groups that can be skipped, with checksums."""

import inspect
from typing import BinaryIO

import numpy as np

from datas3t.archive.names import MAX_KEY
from datas3t.client._tables import seal
from datas3t.client._tables.arrow import pa, pq
from datas3t.client._tables.schemas import KEY, KEY_FIELD, PATH
from datas3t.client.errors import InvalidArgument

GROUP_ROWS = 1 << 16  # rows of a row group: what is fetched of a column at least
GROUP_SIZE = 64 << 20  # bytes in memory of a row group, so that wide rows have smaller ones

# Releases before 15 cannot write page checksums; the seal covers the same bytes.
_WRITER = inspect.signature(pq.ParquetWriter.__init__).parameters
_OPTIONS = {"write_page_checksum": True} if "write_page_checksum" in _WRITER else {}


class Encoder:
    """Writes one file of a table.

    Args:
        file: An empty file to write to and to read from.
        schema: The columns, with the key.

    Attributes:
        first: The first key; -1 before the first row.
        last: The last key.
        rows: How many rows were added.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self.first = self.last = -1
        self.rows = 0
        self._file = file
        required = schema.set(schema.get_field_index(KEY), KEY_FIELD.with_nullable(False))
        self._schema = required.with_metadata(seal.METADATA)
        self._waiting: list[pa.Table] = []
        self._waiting_size = 0
        # What is sorted takes little space as differences; other columns are stored as their values repeat.
        sorted_columns = {KEY: "DELTA_BINARY_PACKED"}
        if pa.types.is_string(schema.field(PATH).type) if PATH in schema.names else False:
            sorted_columns[PATH] = "DELTA_BYTE_ARRAY"
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression="zstd",
            use_dictionary=[name for name in _leaves(schema) if name not in sorted_columns],
            column_encoding=sorted_columns,
            **_OPTIONS,
        )

    def add(self, table: pa.Table) -> None:
        """Add rows, whose keys are above those of all rows before.

        Raises:
            InvalidArgument: They are not, or are no keys.
        """
        if not len(table):
            return
        keys = checked_keys(table)
        if keys[0] <= self.last or (np.diff(keys) <= 0).any():
            raise InvalidArgument("the keys of a table's file must be ascending, each once")
        if self.first < 0:
            self.first = int(keys[0])
        self.last = int(keys[-1])
        self.rows += len(table)
        self._waiting.append(table)
        self._waiting_size += table.nbytes
        while self._waiting_rows() >= GROUP_ROWS or self._waiting_size >= GROUP_SIZE:
            self._write_group()

    def finish(self) -> int:
        """Write what is left, and the seal; return the size of the file."""
        while self._waiting_rows():
            self._write_group()
        self._writer.close()
        return seal.add(self._file)

    def _waiting_rows(self) -> int:
        return sum(map(len, self._waiting))

    def _write_group(self) -> None:
        waiting = pa.concat_tables(self._waiting)
        fitting = max(GROUP_SIZE * len(waiting) // max(self._waiting_size, 1), 1)
        count = min(GROUP_ROWS, fitting, len(waiting))
        group, rest = waiting.slice(0, count), waiting.slice(count)
        self._writer.write_table(group.cast(self._schema), row_group_size=count)
        self._waiting = [rest] if len(rest) else []
        self._waiting_size = rest.nbytes


def checked_keys(table: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the keys of rows. Raise InvalidArgument unless each row has a key."""
    column = table.column(KEY)
    if column.null_count:
        raise InvalidArgument(f"{column.null_count} of the rows have no key; each needs one")
    if column.type != KEY_FIELD.type:
        raise InvalidArgument(f"the column 'key' is {column.type}; keys are int64, from 0 to {MAX_KEY}")
    keys: np.ndarray[tuple[int], np.dtype[np.int64]] = column.to_numpy()
    if len(keys) and keys.min() < 0:
        raise InvalidArgument(f"{keys.min()} is not a key; keys are 0 to {MAX_KEY}")
    return keys


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the names of the columns as Parquet stores them, such as "box.list.element" of a list."""
    empty = pa.BufferOutputStream()
    pq.ParquetWriter(empty, schema).close()
    stored = pq.read_metadata(pa.BufferReader(empty.getvalue())).schema
    return [stored.column(number).path for number in range(len(stored))]
