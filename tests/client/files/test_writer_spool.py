"""The spool of a writer: what a crash leaves of it at any byte, and values that do not fit their columns."""

import datetime
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datas3t.archive import names, tar, write
from datas3t.archive.checksums import crc
from datas3t.client import FileError, InvalidArgument
from datas3t.client._files._writer import records, sending
from datas3t.client._files._writer.columns import Columns, tables
from datas3t.client._files._writer.content import PIECE, Content, Pieces
from datas3t.client._files._writer.spool import Spool

CONTENTS: list[bytes | bytearray | memoryview] = [
    b"one",
    b"",
    b"x" * 2_000,
    bytearray(b"y" * 512),
    memoryview(b"zz" * 300)[100:],
]


def new_spool(folder: Path) -> Spool:
    return Spool.create(folder / f"{1:012d}.tar", 7, 1_000, 3, "labels")


def append(spool: Spool, content: Content, path: str | None = None) -> int:
    return spool.append(Pieces(content), names.entry_name(spool.next_key, "bin"), path, None)


def filled(folder: Path, columns: Columns | None = None) -> tuple[Spool, list[int]]:
    """Return a spool with the contents, and the size of its records after each."""
    spool, sizes = new_spool(folder), [0]
    for number, content in enumerate(CONTENTS):
        row = columns.row({"number": number, f"only {number}": str(number)}) if columns else None
        spool.append(Pieces(content), names.entry_name(spool.next_key, "bin"), f"path/{number}", row)
        sizes.append(spool.path.with_suffix(".records").stat().st_size)
    spool.close()
    return spool, sizes


def test_a_spool_is_an_archive_with_what_was_appended(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path, Columns(lambda: None))
    spool.seal()
    contents = tar.scan_file(spool.path)
    assert (contents.first_key, contents.count) == (7, len(CONTENTS))
    with tarfile.open(spool.path) as archive:
        for entry, content in zip(spool.entries(), CONTENTS, strict=True):
            stored = archive.extractfile(entry.name)
            assert stored is not None
            assert stored.read() == bytes(content)
            assert (entry.size, entry.crc32c) == (len(bytes(content)), crc(bytes(content)))
    rows = pa.concat_tables(tables((e.key, e.columns, e.schema) for e in spool.entries()), promote_options="default")
    assert rows.column("key").to_pylist() == [7, 8, 9, 10, 11]
    assert rows.column("number").to_pylist() == [0, 1, 2, 3, 4]
    assert rows.column("only 3").to_pylist() == [None, None, None, "3", None]


def test_records_cut_at_any_byte_keep_every_whole_datapoint(tmp_path: Path) -> None:
    spool, sizes = filled(tmp_path, Columns(lambda: None))
    whole = spool.path.with_suffix(".records").read_bytes()
    for size in range(len(whole), -1, -31):
        spool.path.with_suffix(".records").write_bytes(whole[:size])
        archive = spool.path.read_bytes()
        expected = max(number for number, stop in enumerate(sizes) if stop <= size)
        cut = Spool.recovered(spool.path)
        if cut is None:
            assert size < len(records.encode(("spool", 7, 1_000, 3, "labels")))
            assert not list(tmp_path.iterdir())
        else:
            assert (cut.count, cut.lost) == (expected, 0)
        spool.path.write_bytes(archive)


@pytest.mark.parametrize("count", range(1, len(CONTENTS)))
def test_a_cut_spool_goes_on_where_its_last_whole_datapoint_ends(tmp_path: Path, count: int) -> None:
    spool, sizes = filled(tmp_path)
    os.truncate(spool.path.with_suffix(".records"), sizes[count] + 5)
    cut = Spool.recovered(spool.path)
    assert cut is not None
    assert cut.count == count
    cut.seal()
    sealed = Spool.recovered(spool.path)
    assert sealed is not None
    assert sealed.count == count == len(list(sealed.entries()))
    assert tar.scan_file(spool.path).count == count


def test_a_content_that_the_disk_does_not_have_is_dropped_with_what_follows_it(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path)
    with spool.path.open("r+b") as file:
        file.seek(512 + 512 + 512 + 512 + 100)  # within the third content
        file.write(bytes(100))
    cut = Spool.recovered(spool.path)
    assert cut is not None
    assert (cut.count, cut.lost) == (2, 3)


def test_an_archive_that_is_shorter_than_its_records_is_cut(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path)
    os.truncate(spool.path, 1_600)
    cut = Spool.recovered(spool.path)
    assert cut is not None
    assert (cut.count, cut.lost) == (2, 3)


def test_a_content_that_the_disk_changes_after_it_was_sealed_is_named(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path)
    spool.seal()
    sending.check_undamaged(spool, tar.scan_file(spool.path, checksums=True))
    with spool.path.open("r+b") as file:
        file.seek(512 + 512 + 512 + 512 + 100)  # within the third content
        file.write(b"X")
    with pytest.raises(FileError, match=r"datapoint 9 in .* is not what was appended"):
        sending.check_undamaged(spool, tar.scan_file(spool.path, checksums=True))


def test_a_failed_append_leaves_the_spool_as_it_was(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > PIECE:
                raise RuntimeError("no more")
            return super().read(size)

    spool = new_spool(tmp_path)
    append(spool, b"before")
    with pytest.raises(RuntimeError, match="no more"):
        append(spool, Broken(bytes(3 * PIECE)))
    assert append(spool, b"after") == 8
    spool.seal()
    assert tar.scan_file(spool.path).count == 2


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 10])
def test_a_file_of_any_size_is_a_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    spool = new_spool(tmp_path)
    append(spool, io.BytesIO(content))
    append(spool, b"next")
    spool.seal()
    with tarfile.open(spool.path) as archive:
        stored = archive.extractfile(names.entry_name(7, "bin"))
        assert stored is not None
        assert stored.read() == content
    assert [entry.crc32c for entry in spool.entries()] == [crc(content), crc(b"next")]
    spool.close()
    recovered = Spool.recovered(spool.path)
    assert recovered is not None
    assert recovered.count == 2


def test_a_header_for_any_size_has_as_many_blocks_for_each() -> None:
    name = names.entry_name(7, "é" * 40)
    headers = [write.header(name, size, any_size=True) for size in (0, 1, 10**6, 8**11, 5 << 40)]
    assert {len(header) for header in headers} == {3 * 512}
    for header, size in zip(headers, (0, 1, 10**6, 8**11, 5 << 40), strict=True):
        info = tarfile.TarInfo.frombuf(header[1024:], "utf-8", "surrogateescape")
        assert f"size={size}\n".encode() in header
        assert info.type == b"0"


def test_a_removed_spool_leaves_nothing(tmp_path: Path) -> None:
    spool, _ = filled(tmp_path)
    (tmp_path / f"{1:012d}.journal").touch()
    (tmp_path / f"{1:012d}-files.parquet").touch()
    (tmp_path / f"{11:012d}.tar").touch()
    spool.remove()
    assert [path.name for path in tmp_path.iterdir()] == [f"{11:012d}.tar"]
    assert Spool.recovered(tmp_path / f"{11:012d}.tar") is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written: No such file or directory"):
        new_spool(tmp_path / "gone")


@pytest.mark.parametrize("content", ["text", 5, None, io.StringIO("text"), memoryview(b"abcdef")[::2]])
def test_what_is_not_bytes_is_refused(content: Content) -> None:
    with pytest.raises(InvalidArgument, match="content"):
        Pieces(content)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, "one"),
        (1, 1.5),
        ("one", 1),
        (b"one", 1),
        (True, 1),
        (1, True),
        ([1], ["one"]),
        ([1], [1.5]),
        ({"a": 1}, {"a": 1, "b": 2}),
        (1.5, "one"),
        (np.float32(1), "one"),
        (np.int8(1), 1_000),
        (datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
        (datetime.datetime(2026, 1, 1), 5),
    ],
)
def test_a_value_of_another_type_is_refused(first: object, second: object) -> None:
    columns = Columns(lambda: None)
    columns.row({"value": first})
    with pytest.raises(InvalidArgument, match="'value'"):
        columns.row({"value": second})


@pytest.mark.parametrize("value", [object(), {}, [{}], 2**64, "\ud800", np.zeros((2, 2)), {1: 2}, [1, "a"]])
def test_a_value_that_no_column_can_have_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match="'value'"):
        Columns(lambda: None).row({"value": value})


def test_the_tables_types_count_from_the_first_value_on() -> None:
    columns = Columns(
        lambda: pa.schema([("key", pa.int64()), ("score", pa.float32()), ("tags", pa.list_(pa.string()))])
    )
    with pytest.raises(InvalidArgument, match="'score' is float, and 'high' is string"):
        columns.row({"score": "high"})
    row = columns.row({"score": 1, "tags": []})
    assert row is not None
    (table,) = tables([(5, *row)])
    assert table.to_pylist() == [{"key": 5, "score": 1.0, "tags": []}]
    assert table.schema.field("score").type == pa.float32()


def test_an_empty_list_takes_the_type_of_a_later_one() -> None:
    columns = Columns(lambda: None)
    rows = [columns.row({"tags": tags}) for tags in ([], ["a"], [])]
    found = list(tables([(key, *row) for key, row in enumerate(rows, 1) if row]))
    assert [table.schema.field("tags").type for table in found][-1] == pa.list_(pa.string())
    assert [row["tags"] for table in found for row in table.to_pylist()] == [[], ["a"], []]


def test_nothing_but_missing_values_is_no_row() -> None:
    assert Columns(lambda: None).row({"a": None, "b": None}) is None


def test_the_key_is_no_column() -> None:
    with pytest.raises(InvalidArgument, match="'key' is what append returns"):
        Columns(lambda: None).row({"key": 5})
