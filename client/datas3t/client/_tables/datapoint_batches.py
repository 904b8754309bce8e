"""Datapoints as batches of Arrow, which DuckDB, Polars, pandas and others read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from datas3t.client._reading.reader import Reader
from datas3t.client._tables.arrow import pa
from datas3t.client.errors import DatapointNotFound, InvalidArgument

if TYPE_CHECKING:
    from datas3t.client.keyset import KeySet

_TYPES = {"key": pa.int64(), "name": pa.string(), "size": pa.int64(), "content": pa.large_binary()}
_MAX_DESCRIBED = 16_384  # datapoints without contents that are looked up together

_Table: TypeAlias = Any  # pyarrow has no types
_Batch: TypeAlias = Any


def datapoint_batches(
    reader: Reader, first: int, last: int, rows: int, size: int, columns: Sequence[str]
) -> "pa.RecordBatchReader":
    """Return the datapoints with keys from `first` to `last` as batches; see `Datas3t.to_batches`."""
    if rows < 1 or size < 1:
        raise InvalidArgument(f"rows and bytes must be at least 1, but are {rows} and {size}")
    unknown = [each for each in columns if each not in _TYPES]
    if unknown or not columns or len({*columns}) != len(columns):
        raise InvalidArgument(f"columns must be different ones of {', '.join(_TYPES)}, but are {list(columns)}")
    schema = pa.schema([(each, _TYPES[each]) for each in columns])
    if "content" in columns:
        batches = _with_contents(reader, first, last, rows, size, schema)
    else:
        batches = _without_contents(reader, first, last, rows, schema)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _with_contents(
    reader: Reader, first: int, last: int, rows: int, size: int, schema: "pa.Schema"
) -> Iterator[_Batch]:
    """Yield batches of datapoints that a scan reads. Each content is copied once, into the memory of its batch."""
    keys: list[int] = []
    names: list[str] = []
    ends, content = [0], bytearray()
    for datapoint in reader.scan(first, last, copy=False):
        if len(keys) == rows or (keys and len(content) + len(datapoint.content) > size):
            yield _batch(schema, keys, names, ends, content)
            keys, names, ends, content = [], [], [0], bytearray()
        content += datapoint.content
        keys.append(datapoint.key)
        names.append(datapoint.name)
        ends.append(len(content))
    if keys:
        yield _batch(schema, keys, names, ends, content)


def _batch(schema: "pa.Schema", keys: list[int], names: list[str], ends: list[int], content: bytearray) -> _Batch:
    offsets = np.array(ends, np.int64)
    made = {
        "key": lambda: pa.array(keys, pa.int64()),
        "name": lambda: _texts(names),
        "size": lambda: pa.array(np.diff(offsets)),
        "content": lambda: pa.Array.from_buffers(
            pa.large_binary(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
        ),
    }
    return pa.record_batch([made[each]() for each in schema.names], schema)


def _without_contents(reader: Reader, first: int, last: int, rows: int, schema: "pa.Schema") -> Iterator[_Batch]:
    """Yield batches of what catalogue, indices and, where they are needed for names, headers say."""
    keys = reader.keyset.within(first, last)
    together = max(_MAX_DESCRIBED // rows * rows, rows)
    for start in range(0, len(keys), together):
        table = _described(reader, keys[start : start + together], schema)
        # Batches of one table share its memory.
        yield from table.combine_chunks().to_batches(max_chunksize=rows)


def _described(reader: Reader, keys: "KeySet", schema: "pa.Schema") -> _Table:
    """Return a table of these keys; without those that were deleted, which a scan leaves out as well."""
    some = keys.take(np.arange(len(keys)))
    while True:
        try:
            return pa.table(_columns(reader, some.tolist(), schema.names), schema)
        except DatapointNotFound:
            lost = reader.lost(some.tolist())
            if reader.is_pinned:
                raise
            some = some[~np.isin(some, list(lost))]


def _columns(reader: Reader, keys: list[int], columns: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "name" in columns:
        infos = reader.describe(keys)
        made["name"] = _texts(info.name for info in infos)
        made["size"] = [info.size for info in infos]
    elif "size" in columns:
        made["size"] = reader.sizes(keys)
    made["key"] = keys
    return {each: pa.array(made[each], _TYPES[each]) if each != "name" else made[each] for each in columns}


def _texts(names: Iterable[str]) -> "pa.Array":
    """Return names as text. Bytes of an extension that are no UTF-8 are escaped."""
    names = list(names)
    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:
        raw = (name.encode("utf-8", "surrogateescape") for name in names)
        return pa.array([each.decode("utf-8", "backslashreplace") for each in raw], pa.string())
