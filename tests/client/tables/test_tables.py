"""Tables against a real server: appended, read, replaced, compacted, dropped."""

import datetime
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datas3t.client import Client, InvalidArgument, KeySet, NotFound, ObjectChanged, PathNotFound, TableError, pack
from datas3t.client._calls.tables import SignedTableFile
from datas3t.client._tables import compacting, encoding, files_rows
from datas3t.client._tables.footers import Piece, TableFile
from datas3t.client._tables.presence import Presence
from datas3t.client._tables.remote import FilesReplaced, Remote
from datas3t.client.handle import Datas3t
from tests.client.sites import Site
from tests.support.stack import wait_until


@pytest.fixture
def photos(site: Site, tmp_path: Path) -> Datas3t:
    """Return a datas3t with datapoints 1 to 20."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02d}.jpg").write_bytes(bytes([number]))
    packed = pack([folder], tmp_path / "photos.tar")
    photos = site.client.datas3t(site.name)
    photos.upload_tar(packed.archive)
    return photos


def test_rows_are_read_as_they_were_appended(photos: Datas3t) -> None:
    labels = photos.table("labels")
    rows = [{"key": key, "label": f"label {key % 3}", "score": key / 2} for key in range(1, 11)]
    assert labels.append(rows[::-1]).rows == 10
    assert labels.schema.names == ["key", "label", "score"]
    assert labels.read().to_pylist() == rows
    assert labels.read(["score"], first=3, last=4).to_pylist() == [{"score": 1.5}, {"score": 2.0}]
    assert labels.read(["key"], where=pc.field("label") == "label 1").column("key").to_pylist() == [1, 4, 7, 10]
    assert [(each.name, each.files, each.lowest, each.highest) for each in photos.tables()] == [("labels", 1, 1, 10)]
    reader = labels.to_batches(["label"])
    assert reader.schema == pa.schema([("label", pa.string())])
    assert reader.read_all().to_pylist() == [{"label": row["label"]} for row in rows]


def test_a_row_replaces_the_one_before_and_columns_unite(photos: Datas3t) -> None:
    labels = photos.table("labels")
    labels.append(pa.table({"key": [1, 2, 3], "label": ["a", "b", "c"]}))
    labels.append(pa.table({"key": [2], "label": ["x"], "by": ["me"]}))
    assert labels.read().to_pylist() == [
        {"key": 1, "label": "a", "by": None},
        {"key": 2, "label": "x", "by": "me"},
        {"key": 3, "label": "c", "by": None},
    ]
    # A condition is applied to the newest row of each key.
    assert labels.read(["key"], where=pc.field("label") == "b").num_rows == 0
    assert labels.read(["key"], where=pc.field("by").is_null()).column("key").to_pylist() == [1, 3]


def test_rows_of_keys_without_a_datapoint_are_kept_and_not_shown(photos: Datas3t, site: Site, tmp_path: Path) -> None:
    labels = photos.table("labels")
    labels.append([{"key": key, "n": key} for key in (1, 20, 21, 22)])
    assert labels.read(["n"]).column("n").to_pylist() == [1, 20]
    (tmp_path / "more").write_bytes(b"more")
    photos.upload_tar(pack([tmp_path / "more"], tmp_path / "more.tar", first=21).archive)
    photos.refresh()
    assert labels.read(["n"]).column("n").to_pylist() == [1, 20, 21]
    assert labels.read(["n"], first=21, last=30).column("n").to_pylist() == [21]


def test_a_type_that_differs_is_refused_by_append_and_named_by_read(photos: Datas3t) -> None:
    labels = photos.table("labels")
    labels.append(pa.table({"key": [1], "n": [1]}))
    with pytest.raises(InvalidArgument, match=r"column 'n', which is int64, do not fit: 1\.5"):
        labels.append([{"key": 2, "n": 1.5}])
    with pytest.raises(InvalidArgument, match="column 'n' is string, and the table's is int64"):
        labels.append(pa.table({"key": [2], "n": ["two"]}))
    # Two that append at the same time may both find no such column.
    file_id = files_rows.send_rows(photos._session, photos.name, "labels", pa.table({"key": [2], "n": ["two"]}))
    Remote(photos._session, photos.name, "labels").complete(file_id)
    with pytest.raises(TableError, match="column 'n' has the types int64 and string in different files"):
        labels.read()
    assert labels.read(["key"]).column("key").to_pylist() == [1, 2]
    assert labels.read(["key"], where=pc.field("key") > 1).column("key").to_pylist() == [2]
    with pytest.raises(TableError, match="column 'n' has the types"):
        labels.read(["key"], where=pc.field("n") == 1)


def test_a_table_of_a_million_rows_is_read_in_few_bytes(photos: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 1_000_000
    keys = np.arange(1, count + 1)
    scores = np.random.default_rng(1).random(count)
    table = photos.table("numbers")
    table.append(pa.table({"key": keys, "group": keys // 1000, "score": scores, "other": scores[::-1]}))
    assert photos.tables()[0].size > 16_000_000
    fetched: list[int] = []
    fetch = Remote.fetch

    def counting(remote: Remote, pieces: Sequence[Piece]) -> list[bytes]:
        fetched.append(sum(stop - start for _, start, stop in pieces))
        return fetch(remote, pieces)

    monkeypatch.setattr(Remote, "fetch", counting)
    # As if there were a million datapoints.
    monkeypatch.setattr(Presence, "within", lambda *_: KeySet.of([(1, count)]))

    def cost(**asked: object) -> int:
        fetched.clear()
        assert table.read(**asked).num_rows == 4  # type: ignore[arg-type]
        return sum(fetched)

    footer = cost(columns=["key"], first=5, last=8)
    assert footer < 100_000  # that, and the keys of one row group
    group = 8 * encoding.GROUP_ROWS  # random numbers take 8 bytes each
    assert group < cost(columns=["score"], first=5, last=8) < 1.2 * group
    where = (pc.field("group") == 500) & (pc.field("key") < 500_004)
    assert group < cost(columns=["score"], where=where) < 1.2 * group
    assert cost(columns=["key", "group"], where=where) < 0.2 * group
    assert sum(fetched) > 0


def test_rows_may_name_files_instead_of_keys(photos: Datas3t) -> None:
    send_files(photos, {1: "a.jpg", 2: "b.jpg", 3: "a.jpg"})
    assert photos.find("a.jpg") == 3
    assert photos.find_all("a.jpg") == [3, 1]
    assert photos.find_many(["b.jpg", "a.jpg"]) == [2, 3]
    assert photos.paths([3, 2, 9]) == ["a.jpg", "b.jpg", None]
    assert list(photos.glob("*.jpg")) == [2, 3]
    assert KeySet.of(photos) - photos.glob("*.jpg") == KeySet([1, *range(4, 21)])
    with pytest.raises(PathNotFound):
        photos.find("c.jpg")
    labels = photos.table("labels")
    labels.append([{"path": "a.jpg", "label": "x"}, {"path": "b.jpg", "label": "y"}])
    assert labels.read().to_pylist() == [{"key": 2, "label": "y"}, {"key": 3, "label": "x"}]
    with pytest.raises(PathNotFound, match=r"c\.jpg"):
        labels.append([{"path": "a.jpg", "label": "x"}, {"path": "c.jpg", "label": "y"}])


def test_names_are_as_they_were_until_a_refresh(photos: Datas3t) -> None:
    with pytest.raises(PathNotFound):
        photos.find("a.jpg")
    send_files(photos, {1: "a.jpg"})
    with pytest.raises(PathNotFound):
        photos.find("a.jpg")
    photos.refresh()
    assert photos.find("a.jpg") == 1


def send_files(photos: Datas3t, names: dict[int, str]) -> None:
    rows = files_rows.files_rows(list(names), list(names.values()), [1] * len(names), None, [0] * len(names))
    file_id = files_rows.send_rows(photos._session, photos.name, "files", rows)
    Remote(photos._session, photos.name, "files").complete(file_id)


def test_compaction_keeps_the_newest_rows_also_of_absent_keys(photos: Datas3t, site: Site) -> None:
    labels = photos.table("labels")
    for number in range(6):
        labels.append([{"key": key, "n": number} for key in range(number, 30, number + 1)])
    before = labels.read().to_pylist()
    merged = list(labels.compact())
    assert [(each.table, each.first, each.last, each.files) for each in merged] == [("labels", 0, 29, 6)]
    assert photos.tables()[0].files == 1
    assert labels.read().to_pylist() == before
    assert list(labels.compact()) == []
    assert [each.table for each in photos.compact_tables()] == []


def test_optimize_merges_tables_as_well(photos: Datas3t) -> None:
    labels = photos.table("labels")
    for number in range(1, 4):
        labels.append([{"key": number, "n": number}])
    assert [(each.table, each.files) for each in photos.compact_tables(dry_run=True)] == [("labels", 3)]
    assert photos.tables()[0].files == 3
    assert [type(each).__name__ for each in photos.optimize()] == ["Compacted"]
    assert photos.tables()[0].files == 1


def test_a_compaction_that_a_newer_file_overtakes_is_planned_again(
    photos: Datas3t, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = photos.table("labels")
    for number in range(3):
        labels.append([{"key": key, "n": number} for key in range(1, 4)])
    plan = compacting.plan
    overtaken: list[int] = []

    def overtake(files: Sequence[TableFile], *sizes: int) -> list[list[TableFile]]:
        planned = plan(files, *sizes)
        if not overtaken:
            overtaken.append(1)
            labels.append([{"key": 2, "n": 9}])
        return planned

    monkeypatch.setattr(compacting, "plan", overtake)
    merged = list(labels.compact())
    assert merged[-1].files in (2, 4)
    assert labels.read(["n"]).column("n").to_pylist() == [2, 9, 2]
    assert photos.tables()[0].files == 1


def test_a_read_goes_on_when_files_are_replaced_meanwhile(photos: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datas3t.client._tables.merging.WINDOW", 1)
    monkeypatch.setattr("datas3t.client._tables.encoding.GROUP_ROWS", 3)
    labels = photos.table("labels")
    for first in (1, 11):
        labels.append([{"key": key, "n": key} for key in range(first, first + 10)])
    reader = labels.to_batches()
    read = [reader.read_next_batch().to_pylist()]
    list(labels.compact())
    read += [batch.to_pylist() for batch in reader]
    assert [row["n"] for rows in read for row in rows] == list(range(1, 21))


def test_the_table_of_files_has_its_own_columns(photos: Datas3t) -> None:
    files = photos.table("files")
    with pytest.raises(
        InvalidArgument, match="the table 'files' has the columns key, path, size, mtime, crc32c, and no"
    ):
        files.append([{"key": 1, "label": "cat"}])
    row = {"key": 1, "path": "a.jpg", "size": 1, "mtime": None, "crc32c": 7}
    with pytest.raises(InvalidArgument, match="column 'crc32c', which is uint32, do not fit"):
        files.append([row | {"crc32c": 2**32}])
    files.append(files_rows.files_rows([1], ["a.jpg"], [1], None, [7]))
    assert files.read().to_pylist() == [row]
    assert photos.find("a.jpg") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_tables(photos: Datas3t) -> None:
    send_files(photos, {1: "a.jpg", 2: "b.jpg"})
    labels = photos.table("labels")
    labels.append([{"key": key, "n": key % 2} for key in range(1, 21)])

    assert work_of(photos) == (2, [1, 2], 10)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        done = [pool.apply_async(work_of, (photos,)) for _ in range(4)]
        assert [each.get(timeout=60) for each in done] == [(2, [1, 2], 10)] * 4


def work_of(photos: Datas3t) -> tuple[int, list[int], int]:
    found = photos.table("labels").read(["key"], where=pc.field("n") == 1)
    return photos.find("b.jpg"), list(photos.glob("*.jpg")), found.num_rows


def test_urls_that_have_expired_are_renewed(photos: Datas3t, short_url_client: Client) -> None:
    send_files(photos, {1: "a.jpg"})
    send_files(photos, {2: "b.jpg"})
    short = short_url_client.datas3t(photos.name)
    assert short.find("a.jpg") == 1
    remote = Remote(short._session, short.name, "files")
    files = remote.files()
    wait_until(lambda: all(time.time() > file.lifetime.ends_at for file in files))
    pieces = [Piece(file, 0, 4) for file in files]
    assert remote.fetch(pieces) == [b"PAR1", b"PAR1"]
    photos.table("files").drop()
    with pytest.raises(FilesReplaced):
        Remote(short._session, short.name, "files").fetch(pieces)


def test_an_object_that_was_changed_is_said_to_be(photos: Datas3t, site: Site) -> None:
    labels = photos.table("labels")
    labels.append([{"key": 1, "n": 1}])
    (key,) = (each for each in site.objects() if "/tables/" in each)
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"PAR1 something else PAR1")
    with pytest.raises(ObjectChanged, match=r"/tables/labels/.* or drop the table and append its rows again"):
        labels.read()
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(ObjectChanged, match="/tables/labels/"):
        Datas3t(photos._session, photos.name).table("labels").read()


def test_many_appends_list_the_files_of_the_table_once(photos: Datas3t, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    files = Remote.files

    def counted(remote: Remote, *span: int) -> list[SignedTableFile]:
        listed.append(remote.table)
        return files(remote, *span)

    monkeypatch.setattr(Remote, "files", counted)
    for key in range(1, 6):
        photos.table("labels").append([{"key": key, "n": key}])
    assert listed == ["labels"] * 2  # before the first rows, and when their column was not known
    photos.table("labels").append([{"key": 1, "more": 1}])
    assert len(listed) == 3
    # Another process has dropped the table, and made it again with another type.
    other = Datas3t(photos._session, photos.name).table("labels")
    other.drop()
    other.append([{"key": 1, "n": "one"}])
    photos.table("labels").append(pa.table({"key": [2], "n": ["two"]}))
    assert photos.table("labels").read(["n"]).column("n").to_pylist() == ["one", "two"]
    photos.table("labels").drop()
    photos.table("labels").append([{"key": 2, "n": 2.5}])
    other.drop()
    other.append([{"key": 1, "n": "one"}])
    with pytest.raises(InvalidArgument, match="'n', which is double, do not fit"):
        photos.table("labels").append([{"key": 2, "n": "two"}])
    photos.refresh()
    photos.table("labels").append([{"key": 2, "n": "two"}])
    assert photos.table("labels").schema.field("n").type == pa.string()


def test_many_threads_share_a_handle(photos: Datas3t) -> None:
    send_files(photos, {key: f"{key}.jpg" for key in range(1, 21)})
    labels = photos.table("labels")
    labels.append([{"key": key, "n": key} for key in range(1, 21)])

    def work(key: int) -> tuple[int, list[int]]:
        return photos.find(f"{key}.jpg"), labels.read(["n"], first=key, last=key).column("n").to_pylist()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(1, 21))) == [(key, [key]) for key in range(1, 21)]


def test_dropped_and_missing_tables_are_not_found(photos: Datas3t) -> None:
    labels = photos.table("labels")
    for read in (labels.read, lambda: labels.schema, labels.to_batches, labels.drop):
        with pytest.raises(NotFound, match="table 'labels'") as caught:
            read()
        assert caught.value.reason == "TABLE_NOT_FOUND"
    assert labels.append([]).files == 0
    labels.append([{"key": 1, "n": 1}])
    assert labels.drop() == 1
    assert photos.tables() == []
    with pytest.raises(NotFound, match="no-such-datas3t"):
        Datas3t(photos._session, "no-such-datas3t").table("labels").read()


def test_values_of_every_kind_come_back(photos: Datas3t) -> None:
    rows = pa.table(
        {
            "key": [1, 2],
            "text": pa.array(["a", None], pa.large_string()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "raw": [b"\0", b""],
            "box": [[1.5, 2.0], []],
            "at": pa.array([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * 2, pa.timestamp("ns", "UTC")),
            "nested": [{"a": 1, "b": ["x"]}, None],
            "nothing": [None, None],
        }
    )
    table = photos.table("kinds")
    table.append(rows)
    read = table.read()
    assert read.schema.field("text").type == pa.string()
    assert read.schema.field("kind").type == pa.string()
    assert read.to_pylist() == rows.drop_columns(["nothing"]).to_pylist()
    assert table.read(["nested"], where=pc.field("nested", "a") == 1).num_rows == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"key": 1, "n": 1}, {"key": 1, "n": 2}], "key 1 repeats"),
        ([{"key": -1}], "-1 is not a key"),
        ([{"key": None}], "have no key"),
        ([{"key": 2**63}], "do not fit"),
        ([{"key": "one"}], "'key'.* do not fit"),
        ([{"key": 1.5}], "'key'.* do not fit: 1.5"),
        ([{"n": 1}], "neither 'key' nor 'path'"),
        ([{"key": 1, "n": object()}], "column 'n' do not fit"),
        ([{"key": 1, "n": 1}, {"key": 2, "n": "two"}], "column 'n' do not fit"),
        ("text", "str cannot be appended"),
        ([1], "int cannot be appended"),
        ([{"path": None}], "each row without a key needs a path"),
        (pa.table({"key": [1.5]}), "keys are whole numbers"),
    ],
)
def test_what_cannot_be_appended_is_refused_and_leaves_nothing(photos: Datas3t, data: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        photos.table("labels").append(data)
    assert photos.tables() == []


def test_a_condition_that_does_not_fit_names_the_columns(photos: Datas3t) -> None:
    labels = photos.table("labels")
    labels.append([{"key": 1, "label": "a"}])
    with pytest.raises(InvalidArgument, match=r"where does not fit the table: .*lable.*; its columns are key, label"):
        labels.read(where=pc.field("lable") == "a")
    with pytest.raises(InvalidArgument, match="must be an expression"):
        labels.read(where="label = 'a'")
    with pytest.raises(InvalidArgument, match="no column 'lable'; its columns are key, label"):
        labels.read(["lable"])
    with pytest.raises(InvalidArgument, match="column 'label' is named twice"):
        labels.read(["label", "label"])
    with pytest.raises(InvalidArgument, match="not a range of keys"):
        labels.read(first=2, last=1)
