"""How rows are divided among files, and that nothing appears of an append that fails."""

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest

from datas3t.client import Appended, InvalidArgument, TransferFailed
from datas3t.client._tables import appending
from datas3t.client._tables.rows import tables_of
from datas3t.client._tables.schemas import check_fits
from datas3t.transport import Body

NOTHING = pa.schema([])


class Target:
    """Takes files, and notes what was done with them."""

    def __init__(self, fail_at: int = 0) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.completed: list[int] = []
        self.cancelled: list[int] = []
        self.tables: list[pa.Table] = []
        self._fail_at = fail_at

    def send(self, first: int, last: int, body: Body, replaces: Sequence[int] = ()) -> int:
        if len(self.ranges) + 1 == self._fail_at:
            raise TransferFailed("S3 is away")
        assert not self.completed, "nothing is complete before everything is sent"
        self.ranges.append((first, last))
        self.tables.append(pa.parquet.read_table(pa.BufferReader(body.read(0, body.size))))
        return len(self.ranges)

    def complete(self, file_id: int) -> None:
        self.completed.append(file_id)

    def cancel(self, file_id: int) -> None:
        self.cancelled.append(file_id)


def no_paths(names: list[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    raise AssertionError(names)


def append(target: Target, data: object, known: pa.Schema = NOTHING) -> Appended:
    return appending.append(tables_of(data, known, no_paths), target, lambda schema: check_fits(schema, known))


def batches(keys: "Sequence[int] | range", each: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(keys), each):
        part = list(keys[start : start + each])
        yield pa.record_batch({"key": part, "n": [key * 2 for key in part]})


def test_batches_in_any_order_become_sorted_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "FILE_ROWS", 1000)
    keys = np.random.default_rng(1).permutation(3500).tolist()
    target = Target()
    appended = append(target, batches(keys, 300))
    assert (appended.rows, appended.files) == (3500, 3)
    assert target.completed == [1, 2, 3]
    found = pa.concat_tables(target.tables)
    assert sorted(found.column("key").to_pylist()) == list(range(3500))
    assert found.column("n").to_pylist() == [key * 2 for key in found.column("key").to_pylist()]
    for (first, last), table in zip(target.ranges, target.tables, strict=True):
        column = table.column("key").to_pylist()
        assert column == sorted(column)
        assert (first, last) == (column[0], column[-1])


def test_nothing_appears_of_an_append_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "FILE_ROWS", 100)
    target = Target(fail_at=3)
    with pytest.raises(TransferFailed):
        append(target, batches(range(1000), 100))
    assert (target.completed, target.cancelled) == ([], [1, 2])

    target = Target()
    with pytest.raises(InvalidArgument, match="key 7 repeats"):
        append(target, batches([*range(500), 7], 50))  # in another file
    assert (target.completed, target.cancelled) == ([], [1, 2, 3, 4, 5])

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(range(200), 100)
        raise ZeroDivisionError

    target = Target()
    with pytest.raises(ZeroDivisionError):
        append(target, broken())
    assert (target.completed, target.cancelled) == ([], [1, 2])


def test_memory_does_not_grow_with_the_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "FILE_ROWS", 20_000)

    class Forgetful(Target):
        def send(self, first: int, last: int, body: Body, replaces: Sequence[int] = ()) -> int:
            self.ranges.append((first, last))
            return len(self.ranges)

    def peak(count: int) -> int:
        tracemalloc.start()
        before = pa.default_memory_pool().max_memory()
        append(Forgetful(), ({"key": key, "text": f"text {key}"} for key in range(count)))
        traced: int = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        arrow: int = pa.default_memory_pool().max_memory() - before
        return traced + arrow

    peak(20_000)
    assert peak(160_000) < 2 * peak(40_000) + (1 << 20)


def test_other_libraries_hand_over_their_columns() -> None:
    import pandas
    import polars

    columns = {"key": [2, 1], "label": ["b", "a"]}
    expected = pa.table({"key": [1, 2], "label": ["a", "b"]})
    for data in (
        polars.DataFrame(columns),
        pandas.DataFrame(columns),
        pa.table(columns).to_reader(),
        [pa.table(columns)],
    ):
        target = Target()
        append(target, data)
        assert target.tables[0].cast(expected.schema).equals(expected), type(data)


def test_columns_that_come_later_are_null_before() -> None:
    target = Target()
    append(target, [{"key": 1, "a": 1}, {"key": 2, "b": "x"}])
    assert target.tables[0].to_pylist() == [{"key": 1, "a": 1, "b": None}, {"key": 2, "a": None, "b": "x"}]
    target = Target()
    append(target, [pa.table({"key": [1], "a": [1]}), pa.table({"key": [2], "b": ["x"]})])
    assert target.tables[0].to_pylist() == [{"key": 1, "a": 1, "b": None}, {"key": 2, "a": None, "b": "x"}]


def test_rows_of_python_get_the_types_of_the_table() -> None:
    known = pa.schema([("key", pa.int64()), ("n", pa.int16()), ("at", pa.timestamp("ms"))])
    target = Target()
    append(target, [{"key": 1, "n": 3, "at": None}], known)
    assert target.tables[0].schema.field("n").type == pa.int16()
    with pytest.raises(InvalidArgument, match="column 'n', which is int16, do not fit"):
        append(target, [{"key": 1, "n": 70_000}], known)
    with pytest.raises(InvalidArgument, match="column 'n' is int64, and the table's is int16"):
        append(target, pa.table({"key": [1], "n": [3]}), known)
    with pytest.raises(InvalidArgument, match="'a' has the types int64 and string in what was given"):
        append(target, [pa.table({"key": [1], "a": [1]}), pa.table({"key": [2], "a": ["x"]})])
    with pytest.raises(InvalidArgument, match="repeats"):
        append(target, pa.Table.from_arrays([pa.array([1])] * 2, names=["key", "key"]))
