"""What users append, as tables of Arrow: tables, batches, rows, and what other libraries hold in columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.schemas import KEY, KEY_FIELD, PATH, normalised
from datas3t.client.errors import InvalidArgument

Data: TypeAlias = Any
"""A table, a batch, a reader of batches, an iterable of tables, batches or rows, or what exports Arrow's C stream."""

KeysOf: TypeAlias = Callable[[list[str]], NDArray[np.int64]]

_ROWS = 1 << 14  # rows that are converted at a time
_KINDS = "give a pyarrow Table, batches, or rows as dicts"


def tables_of(data: Data, known: pa.Schema, keys_of: KeysOf) -> Iterator[pa.Table]:
    """Yield what a user appends as tables with the column `key`, in any order of keys.

    Args:
        data: What to append.
        known: The columns that the table has; rows of Python get their types.
        keys_of: Returns the keys of paths, for data with the column `path` instead of `key`.

    Raises:
        InvalidArgument: It is no data, or has no keys.
    """
    for table in _converted(data, known):
        try:
            plain = normalised(table)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InvalidArgument(f"the columns cannot be stored: {_first_line(error)}") from None
        if len(set(plain.column_names)) != plain.num_columns:
            raise InvalidArgument(f"a column's name repeats: {', '.join(plain.column_names)}")
        yield _keyed(plain, keys_of)


def _converted(data: Data, known: pa.Schema) -> Iterator[pa.Table]:
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        yield _table(data)
    elif isinstance(data, pa.RecordBatchReader):
        yield from map(_table, data)
    elif hasattr(data, "__arrow_c_stream__") and hasattr(pa.RecordBatchReader, "from_stream"):
        yield from map(_table, pa.RecordBatchReader.from_stream(data))
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
        yield from _of_items(iter(data), known)
    else:
        raise InvalidArgument(f"{type(data).__name__} cannot be appended; {_KINDS}")


def _of_items(items: Iterator[object], known: pa.Schema) -> Iterator[pa.Table]:
    for item in items:
        if isinstance(item, (pa.Table, pa.RecordBatch)):
            yield _table(item)
        elif isinstance(item, Mapping):
            rows = _Rows(known)
            of_item = chain((item,), items)
            while chunk := list(islice(of_item, _ROWS)):
                yield rows.table(chunk)
        else:
            raise InvalidArgument(f"{type(item).__name__} cannot be appended; {_KINDS}")


def _table(data: "pa.Table | pa.RecordBatch") -> pa.Table:
    return pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data


class _Rows:
    """Converts dicts. A column has the type that the table has, or else that of its first values."""

    def __init__(self, known: pa.Schema) -> None:
        self._types = {field.name: field.type for field in known} | {KEY: KEY_FIELD.type}

    def table(self, rows: list[object]) -> pa.Table:
        names: dict[str, None] = {}
        for row in rows:
            if not isinstance(row, Mapping):
                raise InvalidArgument(f"{type(row).__name__} is no row; {_KINDS}")
            names |= dict.fromkeys(row)
        return pa.table({name: self._column(str(name), [row.get(name) for row in rows]) for name in names})  # type: ignore[attr-defined]

    def _column(self, name: str, values: list[object]) -> pa.Array:
        kind = self._types.get(name)
        # pyarrow would cut off what is behind the point.
        if kind is not None and pa.types.is_integer(kind):
            for value in values:
                if isinstance(value, float) and not value.is_integer():
                    raise InvalidArgument(f"the values of column {name!r}, which is {kind}, do not fit: {value}")
        try:
            column = pa.array(values, None if kind is None or pa.types.is_null(kind) else kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            known = f", which is {kind}," if kind is not None else ""
            raise InvalidArgument(f"the values of column {name!r}{known} do not fit: {_first_line(error)}") from None
        self._types[name] = column.type
        return column


def _keyed(table: pa.Table, keys_of: KeysOf) -> pa.Table:
    """Return the table with the column `key`, as int64, instead of `path` if it has no keys."""
    if KEY in table.column_names:
        column = table.column(KEY)
        if not pa.types.is_integer(column.type):
            raise InvalidArgument(f"the column 'key' is {column.type}; keys are whole numbers")
        try:
            return table.set_column(table.column_names.index(KEY), KEY_FIELD, column.cast(KEY_FIELD.type))
        except pa.ArrowException as error:
            raise InvalidArgument(f"the column 'key' has no keys: {_first_line(error)}") from None
    if PATH not in table.column_names:
        raise InvalidArgument(f"the rows have neither 'key' nor 'path'; their columns are {table.column_names}")
    column = table.column(PATH)
    if not pa.types.is_string(column.type) or column.null_count:
        raise InvalidArgument(f"the column 'path' is {column.type}, or has nulls; each row without a key needs a path")
    keys = pa.array(keys_of(column.to_pylist()))
    return table.drop_columns([PATH]).add_column(0, KEY_FIELD, keys)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())
