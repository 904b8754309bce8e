"""Every changed byte of a table's file that matters is noticed; other readers read the file as any Parquet file."""

import dataclasses
import io
import os
import pickle
import random
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datas3t.archive.checksums import crc
from datas3t.archive.names import MAX_KEY
from datas3t.client._tables import columns, reading
from datas3t.client._tables.files_rows import encoded, files_rows
from datas3t.client._tables.footers import Footers, Piece
from datas3t.client.errors import TableError
from tests.client.tables.memory import MemoryFile, Store, file_of

ROWS = files_rows(
    range(50, 250), [f"cats/{n:03d}.jpg" for n in range(200)], range(200), [n or None for n in range(200)], range(200)
)
FLIPS = 2500  # with as many of archives, indices and checksums: 10,000


def read(file: MemoryFile, folder: Path, store: Store | None = None) -> pa.Table:
    store = store or Store()
    footers = Footers(folder, 0)  # nothing is kept on disk
    schema = reading.schema_of([file], footers, store.fetch)
    asked = reading.question(schema, columns=None, where=None, first=0, last=MAX_KEY, present=None)
    return pa.concat_tables(reading.answer([file], footers, store.fetch, asked))


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Footers, "_on_disk", lambda *_: None)
    monkeypatch.setattr(Footers, "_cache", lambda _: (_ for _ in ()).throw(OSError))
    file = file_of(ROWS, 1)
    assert read(file, tmp_path).equals(ROWS)
    chosen = random.Random(11)
    noticed = 0
    for number in range(FLIPS):
        content = bytearray(file.content)
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        try:
            found = read(dataclasses.replace(file, id=number, content=bytes(content)), tmp_path)
        except TableError as error:
            noticed += file.location in str(error)
        else:
            assert found.equals(ROWS)
    # The rest is in bytes that no reader needs: "PAR1" at the start, and what old releases write behind each column.
    assert noticed > FLIPS * 0.85


def test_other_readers_read_the_file() -> None:
    content = encoded(ROWS)
    assert pq.read_table(io.BytesIO(content)).cast(ROWS.schema).equals(ROWS)
    metadata = pq.read_metadata(io.BytesIO(content))
    assert metadata.metadata[b"datas3t.seal"] == b"1"


def test_the_seal_is_as_the_page_of_the_format_says() -> None:
    content = bytes(encoded(ROWS))
    end = len(content) - 8
    footer = content[end - int.from_bytes(content[end : end + 4], "little") : end]
    sealed = content[: end - len(footer)]
    group = pq.read_metadata(io.BytesIO(content)).row_group(0)
    assert sealed[-8:] == b"d3tseal1"
    numbers = struct.unpack(f">{2 + group.num_columns}I", sealed[-8 - 4 * (2 + group.num_columns) : -8])
    assert numbers[0] == crc(footer)
    assert numbers[-1] == crc(sealed[-8 - 4 * len(numbers) : -12])
    for number in range(group.num_columns):
        column = group.column(number)
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        assert numbers[1 + number] == crc(content[start : start + column.total_compressed_size])


def test_bytes_that_are_wrong_once_are_fetched_again(tmp_path: Path) -> None:
    table = pa.table({"key": range(200_000), "n": [number % 1013 for number in range(200_000)]})
    file = file_of(table, 1)

    class Flaky(Store):
        def fetch(self, pieces: Sequence[Piece]) -> list[bytes]:
            bodies = super().fetch(pieces)
            if len(self.pieces) == 2:  # the first bytes after the footer
                bodies[0] = bodies[0][:-1] + bytes([bodies[0][-1] ^ 1])
            return bodies

    store = Flaky()
    assert read(file, tmp_path, store).equals(table)


def test_a_file_of_another_program_is_read_without_a_seal(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(ROWS, out, row_group_size=50)
    assert read(MemoryFile(1, 50, 249, 1, out.getvalue()), tmp_path).equals(ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1" + bytes(100), "does not end as a Parquet file does"),
        (b"PAR1" + bytes(100) + (200).to_bytes(4, "little") + b"PAR1", "larger than the file"),
        (b"PAR1" + bytes(100) + (1 << 30).to_bytes(4, "little") + b"PAR1", "at most 67108864 are read"),
        (b"PAR1" + bytes(100) + (50).to_bytes(4, "little") + b"PAR1", "footer cannot be read"),
    ],
)
def test_what_is_no_parquet_is_an_error_that_names_the_file(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message):
        read(MemoryFile(1, 0, 9, 1, content), tmp_path)


def test_keys_outside_of_the_files_range_are_an_error(tmp_path: Path) -> None:
    file = file_of(ROWS, 1)
    with pytest.raises(TableError, match="keys are not ascending from 51 to 249"):
        read(dataclasses.replace(file, first=51), tmp_path)


def test_footers_are_kept_on_disk(tmp_path: Path) -> None:
    file = file_of(pa.table({"key": range(100_000), "n": [number % 1013 for number in range(100_000)]}), 1)
    for expected in (1, 0):
        store = Store()
        schema = reading.schema_of([file], Footers(tmp_path, 1 << 30), store.fetch)
        assert schema.names == ["key", "n"]
        assert store.requests == expected


def test_a_footer_that_is_larger_than_the_first_bytes_is_fetched_whole(tmp_path: Path) -> None:
    wide = pa.table({"key": range(10), **{f"column {number}": range(10) for number in range(800)}})
    file = file_of(wide, 1)
    assert file.size > 1 << 17
    assert read(file, tmp_path).equals(wide)
    assert columns.leaves(next(Footers(tmp_path, 1 << 30).opened([file], Store().fetch)), ["column 1"]) == [2]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    payload = pickle.dumps(_Trap(trap))
    names = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
    schema = pa.schema([pa.field("key", pa.int64()), pa.field("n", pa.int64(), metadata=names)])
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyarrow's own, about such types
        pq.write_table(pa.table([[1, 2], [3, 4]], schema=schema), out)
        found = read(MemoryFile(1, 1, 2, 1, out.getvalue()), tmp_path)
    assert found.column("key").to_pylist() == [1, 2]
    assert not trap.exists()


class _Trap:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return os.mkdir, (self._path,)
