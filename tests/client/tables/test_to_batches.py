"""Datapoints as batches of Arrow, and the libraries that read them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from datas3t.archive import names, write
from datas3t.client import DatapointNotFound, Datas3t, InvalidArgument, KeySet, ObjectChanged
from tests.client.archives import sample, tar
from tests.client.sites import Site

SIZES = [random.Random(1).randint(0, 3000) for _ in range(500)]
COLUMNS = ["key", "name", "size", "content"]


@pytest.fixture
def contents(site: Site, tmp_path: Path) -> dict[int, bytes]:
    """Upload two archives with a gap between their keys; of the first, the extension is not known to the server."""
    first, second = sample(tmp_path / "a.tar", 10, *SIZES[:200]), sample(tmp_path / "b.tar", 500, *SIZES[200:])
    index = b""
    for key in first.contents:
        index += records(first.contents, key)
    site.upload_unchecked(tar(first.contents), index, first.first)
    site.upload(second)
    return first.contents | second.contents


def records(contents: dict[int, bytes], key: int) -> bytes:
    from datas3t.archive.index import RECORD

    before = sum(512 + len(content) + len(write.padding(len(content))) for k, content in contents.items() if k < key)
    return RECORD.pack(before, 1, 0, len(contents[key]))


@pytest.fixture
def handle(site: Site, contents: dict[int, bytes]) -> Datas3t:
    return site.client.datas3t(site.name)


def rows_of(contents: dict[int, bytes]) -> list[dict[str, Any]]:
    return [
        {"key": key, "name": names.entry_name(key, "bin"), "size": len(content), "content": content}
        for key, content in contents.items()
    ]


@pytest.mark.parametrize("columns", [COLUMNS, ["content"], ["size", "key"], ["key"], ["name"], ["content", "size"]])
def test_batches_have_the_columns_that_are_asked_for(
    handle: Datas3t, contents: dict[int, bytes], columns: list[str]
) -> None:
    reader = handle.to_batches(rows=64, columns=columns)
    types = {"key": pa.int64(), "name": pa.string(), "size": pa.int64(), "content": pa.large_binary()}
    assert reader.schema == pa.schema([(column, types[column]) for column in columns])
    batches = list(reader)
    assert [len(batch) for batch in batches[:3]] == [64, 64, 64]
    for batch in batches:
        batch.validate(full=True)
    wanted = [{column: row[column] for column in columns} for row in rows_of(contents)]
    assert pa.Table.from_batches(batches).to_pylist() == wanted


def test_a_batch_has_so_many_bytes_at_most(handle: Datas3t, contents: dict[int, bytes]) -> None:
    batches = list(handle.to_batches(20, 600, bytes=2500, rows=7))
    sizes = [sum(batch["size"].to_pylist()) for batch in batches]
    for size, batch, following in zip(sizes, batches, batches[1:], strict=False):
        assert size <= 2500 or len(batch) == 1
        assert len(batch) == 7 or size + following["size"][0].as_py() > 2500  # none is smaller than it has to be
    expected = [row for row in rows_of(contents) if 20 <= row["key"] <= 600]
    assert [row for batch in batches for row in batch.to_pylist()] == expected


def test_without_contents_none_is_fetched(site: Site, handle: Datas3t, contents: dict[int, bytes]) -> None:
    handle.to_batches(columns=["size"]).read_all()  # the indices are in the cache now
    for key in site.objects():
        if key.endswith(".tar"):
            site.s3.delete_object(Bucket=site.bucket, Key=key)
    assert handle.to_batches(columns=["key", "size"]).read_all().num_rows == 500
    # The server knows the extension of the second archive: its names need no header.
    assert handle.to_batches(500, columns=["name"]).read_all()["name"][0].as_py() == names.entry_name(500, "bin")
    with pytest.raises(ObjectChanged):
        handle.to_batches(10, 20, columns=["name"]).read_all()
    with pytest.raises(ObjectChanged):
        handle.to_batches().read_all()


def test_what_is_deleted_meanwhile_is_left_out_unless_the_keys_are_pinned(
    site: Site, handle: Datas3t, contents: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datas3t.client._tables.datapoint_batches._MAX_DESCRIBED", 100)
    pinned = handle.at(KeySet([10, 30, 501]))
    assert pinned.to_batches(columns=["key", "size"]).read_all()["key"].to_pylist() == [10, 30, 501]
    readers = [handle.to_batches(0, 505, rows=100, columns=columns) for columns in (["size", "key"], ["key", "name"])]
    for reader in readers:
        assert reader.read_next_batch()["key"].to_pylist() == list(range(10, 110))
    site.client.delete_dataranges(site.name, 10, 209)
    for key in site.objects():
        if "/00000000000000000010-" in key:
            site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(DatapointNotFound):
        handle.get(150)  # the handle learns of the deletion
    for reader in readers:
        assert reader.read_all()["key"].to_pylist() == list(range(500, 506))
    assert handle.to_batches(0, 505).read_all()["key"].to_pylist() == list(range(500, 506))
    for columns in (["size", "key"], ["key", "name"], COLUMNS):
        with pytest.raises(DatapointNotFound):
            pinned.to_batches(columns=columns).read_all()
    assert handle.to_batches(0, 9).read_all().num_rows == 0


def test_wrong_arguments_are_refused(handle: Datas3t) -> None:
    wrong: list[dict[str, Any]] = [
        {"rows": 0}, {"bytes": 0}, {"columns": []}, {"columns": ["key", "key"]}, {"columns": ["path"]},
        {"first": 5, "last": 4},
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises(InvalidArgument):
            handle.to_batches(**arguments)


def test_a_reader_that_is_abandoned_holds_nothing(handle: Datas3t, contents: dict[int, bytes]) -> None:
    reader = handle.to_batches(rows=1)
    assert reader.read_next_batch()["key"].to_pylist() == [10]
    reader.close()
    del reader
    assert handle.get(10) == contents[10]


def test_duckdb_reads_them(handle: Datas3t, contents: dict[int, bytes]) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("datapoints", handle.to_batches(rows=32))
        found = connection.execute(
            "SELECT key, octet_length(content), md5(content) FROM datapoints WHERE size > 1500 ORDER BY key"
        ).fetchall()
        connection.register("sizes", handle.to_batches(columns=["size"]))
        assert connection.execute("SELECT sum(size) FROM sizes").fetchone() == (sum(SIZES),)
    from hashlib import md5

    large = {key: content for key, content in contents.items() if len(content) > 1500}
    assert found == [(key, len(content), md5(content).hexdigest()) for key, content in large.items()]


def test_polars_and_pandas_read_them(handle: Datas3t, contents: dict[int, bytes]) -> None:
    import polars

    frame = polars.DataFrame(handle.to_batches(rows=32))
    assert frame.to_dicts() == rows_of(contents)
    pandas_frame = handle.to_batches(rows=32).read_pandas()
    assert pandas_frame["content"].tolist() == list(contents.values())
    assert np.array_equal(pandas_frame["size"], [len(content) for content in contents.values()])


def test_pyarrow_writes_them_as_a_dataset(handle: Datas3t, contents: dict[int, bytes], tmp_path: Path) -> None:
    pyarrow.dataset.write_dataset(
        handle.to_batches(rows=32), tmp_path / "out", format="parquet", max_rows_per_file=128, max_rows_per_group=64
    )
    assert len(list((tmp_path / "out").iterdir())) == 4
    table = pyarrow.dataset.dataset(tmp_path / "out").to_table().sort_by("key")
    assert table.to_pylist() == rows_of(contents)


def test_an_error_is_that_of_reading(site: Site, handle: Datas3t, contents: dict[int, bytes]) -> None:
    import duckdb

    handle.to_batches(columns=["size"]).read_all()
    (key,) = [each for each in site.objects() if each.endswith(".tar") and "/00000000000000000500-" in each]
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(ObjectChanged, match="missing"):
        list(handle.to_batches(rows=50))
    datapoints = handle.to_batches(rows=50)
    with pytest.raises(duckdb.Error, match="missing"):
        duckdb.execute("SELECT count(content) FROM datapoints").fetchall()
    del datapoints


def test_a_name_that_is_no_utf_8_is_escaped(site: Site, tmp_path: Path) -> None:
    head = bytearray(write.header(names.entry_name(7, "xx"), 3))
    head[21:23] = b"\xff\xe9"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path = tmp_path / "odd.tar"
    path.write_bytes(bytes(head) + b"abc" + write.padding(3) + write.END)
    site.client.upload_tar(site.name, path)
    for columns in (["name"], COLUMNS):
        table = site.client.datas3t(site.name).to_batches(columns=columns).read_all()
        assert table["name"].to_pylist() == [f"{7:020d}.\\xff\\xe9"]
