"""The columns of appended datapoints: each value gets the type of its column, and is kept as Arrow stores it.

pyarrow is imported with the first value, and never for datapoints without columns.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from datas3t.client._calls.arguments import check_text
from datas3t.client.errors import InvalidArgument

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS, _MOST_BYTES = 1 << 13, 8 << 20  # of a table that is made at once
_MAX_SHOWN = 60  # characters of a value in a message
KEY = "key"


class Row(NamedTuple):
    """The values of one datapoint, as Arrow stores them, and the schema that says which columns they are of."""

    values: bytes
    schema: bytes


class Columns:
    """The columns of a writer. Each has the type that the table has, or that of its first value.

    Args:
        known: Returns the schema of the table; None if there is no such table yet. Called with the first value.
    """

    def __init__(self, known: "Callable[[], pa.Schema | None]") -> None:
        self._known = known
        self._lock = threading.Lock()
        self._types: dict[str, pa.DataType] | None = None  # of all columns that are known
        self._missing: dict[str, pa.Array] = {}  # a null of each column that was given a value so far
        self._schema: pa.Schema | None = None  # of these columns
        self._encoded = b""

    def row(self, values: Mapping[str, object]) -> Row | None:
        """Return the values of one datapoint; None if all of them are missing.

        Raises:
            InvalidArgument: A value does not have the type of its column.
        """
        present = {name: value for name, value in values.items() if value is not None}
        if not present:
            return None
        from datas3t.client._tables.arrow import pa  # noqa: PLC0415 - only where it is needed

        with self._lock:
            if self._types is None:
                schema = self._known()
                self._types = {field.name: field.type for field in schema or () if field.name != KEY}
            arrays = {name: _array(pa, name, value, self._types.get(name)) for name, value in present.items()}
            for name, array in arrays.items():
                if name not in self._missing or self._types[name] != array.type:
                    _check_storable(pa, name, array.type)
                    self._types[name], self._missing[name] = array.type, pa.nulls(1, array.type)
                    self._schema = None
            if self._schema is None:
                self._schema = pa.schema([(name, array.type) for name, array in self._missing.items()])
                self._encoded = self._schema.serialize().to_pybytes()
            columns = (self._missing | arrays).values()
            batch = pa.RecordBatch.from_arrays(list(columns), schema=self._schema)
            return Row(batch.serialize().to_pybytes(), self._encoded)


def _array(pa: ModuleType, name: str, value: object, known: "pa.DataType | None") -> "pa.Array":
    """Return a value as a column of one row, of the type that is known."""
    if known is None:
        check_text(column=name)
        if name == KEY:
            raise InvalidArgument("the column 'key' is what append returns; give it another name")
    try:
        array = pa.array([value])
        if known is None or _is_open(pa, known):
            return array
        if array.type == known:
            return array
        if _fits(pa.types, array.type, known):
            return pa.array([value], known)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument(f"column {name!r} cannot have {_shown(value)}: {reason}; convert it") from None
    raise InvalidArgument(
        f"column {name!r} is {known}, and {_shown(value)} is {array.type}; convert it, or use another column"
    )


def _check_storable(pa: ModuleType, name: str, kind: "pa.DataType") -> None:
    """Raise InvalidArgument if Parquet cannot store values of a type, such as dicts without any key."""
    from datas3t.client._tables.arrow import pq  # noqa: PLC0415 - as above

    if _is_open(pa, kind):
        return
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([(name, kind)])).close()
    except (pa.ArrowException, NotImplementedError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument(f"column {name!r} is {kind}, which cannot be stored: {reason}; convert it") from None


def tables(rows: Iterable[tuple[int, bytes, bytes]]) -> "Iterator[pa.Table]":
    """Yield rows with their keys, some thousand at a time.

    Args:
        rows: The key, the values and the schema of each row, as `Row` has them.
    """
    from datas3t.client._tables.arrow import pa  # noqa: PLC0415 - as above

    keys: list[int] = []
    batches: list[pa.RecordBatch] = []
    encoded, schema, size = b"", None, 0

    def table() -> "pa.Table":
        return pa.Table.from_batches(batches).combine_chunks().add_column(0, KEY, [pa.array(keys, pa.int64())])

    for key, values, its_schema in rows:
        if keys and (its_schema != encoded or len(keys) == _MOST_ROWS or size >= _MOST_BYTES):
            yield table()
            keys, batches, size = [], [], 0
        if its_schema != encoded or schema is None:
            encoded, schema = its_schema, pa.ipc.read_schema(pa.py_buffer(its_schema))
        keys.append(key)
        batches.append(pa.ipc.read_record_batch(pa.py_buffer(values), schema))
        size += len(values)
    if keys:
        yield table()


def united(schemas: Iterable[bytes]) -> "pa.Schema":
    """Return the columns of schemas as `Row` has them, without those of which no row says what they hold."""
    from datas3t.client._tables.arrow import pa  # noqa: PLC0415 - as above

    types: dict[str, pa.DataType] = {}
    for encoded in schemas:
        for field in pa.ipc.read_schema(pa.py_buffer(encoded)):
            if not _is_open(pa, field.type):
                types[field.name] = field.type
    return pa.schema(list(types.items()))


def _is_open(pa: ModuleType, kind: "pa.DataType") -> bool:
    """Return whether no value has shown yet what a column holds, as with an empty list."""
    if pa.types.is_null(kind):
        return True
    return pa.types.is_nested(kind) and any(_is_open(pa, kind.field(number).type) for number in range(kind.num_fields))


def _fits(kinds: ModuleType, found: "pa.DataType", known: "pa.DataType") -> bool:
    """Return whether values that Arrow takes for `found` can be stored as `known`, as far as their types tell."""
    if found == known or kinds.is_null(found):
        return True
    if kinds.is_integer(found):
        return bool(kinds.is_integer(known) or kinds.is_floating(known))
    if kinds.is_list(found) and (kinds.is_list(known) or kinds.is_fixed_size_list(known)):
        return _fits(kinds, found.value_type, known.value_type)
    if kinds.is_struct(found) and kinds.is_struct(known):
        of_known = {known.field(number).name: known.field(number).type for number in range(known.num_fields)}
        fields = [found.field(number) for number in range(found.num_fields)]
        return all(field.name in of_known and _fits(kinds, field.type, of_known[field.name]) for field in fields)
    if kinds.is_timestamp(found) and kinds.is_timestamp(known):
        return (found.tz is None) == (known.tz is None)
    return any(is_kind(found) and is_kind(known) for is_kind in (kinds.is_floating, kinds.is_decimal, kinds.is_time))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
