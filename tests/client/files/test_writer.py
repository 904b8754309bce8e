"""Writers on a real server: what `append` has returned is committed exactly once."""

import io
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.archive.checksums import crc
from datas3t.client import (
    Client,
    Datas3tError,
    FailedPrecondition,
    Interrupted,
    InvalidArgument,
    NotFound,
    PackageMissing,
)
from datas3t.client._files._writer.uploader import Uploader

SMALL = 4 << 10  # bytes of an archive, for many archives


def stored(client: Client, name: str) -> dict[int, tuple[str, bytes]]:
    return {each.key: (each.name, each.content) for each in client.datas3t(name).scan()}


def test_what_was_appended_is_there(client: Client, datas3t: str) -> None:
    with client.writer(datas3t) as out:
        keys = [
            out.append(b"one", extension="txt"),
            out.append(b""),
            out.append(io.BytesIO(b"three"), extension="tar.gz"),
        ]
    assert keys == [1, 2, 3]
    assert stored(client, datas3t) == {
        1: (f"{1:020d}.txt", b"one"),
        2: (f"{2:020d}.bin", b""),
        3: (f"{3:020d}.tar.gz", b"three"),
    }


def test_full_archives_are_uploaded_while_more_is_appended(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, archive_size=SMALL) as out:
        contents = {out.append(os.urandom(700)): None for _ in range(40)}
    assert list(contents) == list(range(1, 41))
    dataranges = client.list_dataranges(datas3t)
    assert len(dataranges) > 8
    assert max(each.size for each in dataranges) <= SMALL
    assert len(client.datas3t(datas3t)) == 40


def test_flush_returns_when_everything_is_committed(client: Client, datas3t: str) -> None:
    with client.writer(datas3t) as out:
        out.flush()
        assert not client.list_dataranges(datas3t)
        key = out.append(b"one")
        assert not client.list_dataranges(datas3t)
        out.flush()
        assert client.datas3t(datas3t).get(key) == b"one"
        out.flush()
        out.append(b"two")
    assert [(each.first, each.last) for each in client.list_dataranges(datas3t)] == [(1, 1), (2, 2)]


def test_a_large_content_has_an_archive_of_its_own(client: Client, datas3t: str) -> None:
    large = os.urandom(3 << 20)
    with client.writer(datas3t, archive_size=SMALL) as out:
        out.append(b"before")
        out.append(io.BytesIO(large))
        out.append(b"after")
    assert [each.datapoints for each in client.list_dataranges(datas3t)] == [1, 1, 1]
    assert client.datas3t(datas3t).get(2) == large


def test_a_file_that_could_not_be_appended_is_rewound(client: Client, datas3t: str) -> None:
    content = io.BytesIO(b"before" + bytes(2 << 20))
    content.seek(6)
    with client.writer("none-such") as out, pytest.raises(NotFound):
        out.append(content)
    with client.writer(datas3t) as out:
        key = out.append(content)
    assert client.datas3t(datas3t).get(key) == bytes(2 << 20)


def test_an_interruption_says_who_uploads_the_rest(
    client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = client.writer(datas3t, writer_id="mine")
    out.append(b"x")

    def interrupt(_self: Uploader, _number: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Uploader, "wait_for", interrupt)
        with pytest.raises(Interrupted, match="writer_id 'mine' uploads it"):
            out.close()
    client.writer(datas3t, writer_id="mine").close()
    assert len(client.datas3t(datas3t)) == 1


def test_a_block_of_keys_that_is_used_up_is_followed_by_another(
    client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datas3t.client._files.writer._MIN_KEYS", 3)
    monkeypatch.setattr("datas3t.client._files.writer._MAX_KEYS", 3)
    with client.writer(datas3t) as out:
        keys = [out.append(b"x") for _ in range(4)]
        client.reserve_keys(datas3t, 10)
        keys += [out.append(b"x") for _ in range(4)]
    assert keys == [1, 2, 3, 4, 5, 6, 17, 18]
    assert list(client.datas3t(datas3t).keys) == keys


def test_the_next_writer_with_an_id_goes_on_with_its_keys(client: Client, datas3t: str) -> None:
    keys = []
    for _ in range(3):
        with client.writer(datas3t, writer_id="crawler-1") as out:
            keys.append(out.append(b"x"))
            assert out.writer_id == "crawler-1"
    with client.writer(datas3t, writer_id="crawler-2") as out:
        assert out.append(b"x") > 1_000
    assert keys == [1, 2, 3]


def test_the_next_writer_without_an_id_goes_on_with_the_keys_of_one_that_has_ended(
    client: Client, datas3t: str
) -> None:
    with client.writer(datas3t) as first, client.writer(datas3t) as second:
        keys = [first.append(b"x"), second.append(b"x")]
        assert first.writer_id != second.writer_id
    with client.writer(datas3t) as again:
        assert again.append(b"x") in (keys[0] + 1, keys[1] + 1)


def test_writers_without_an_id_use_the_same_folders_again(client: Client, datas3t: str, state_home: Path) -> None:
    with client.writer(datas3t), client.writer(datas3t):
        for _ in range(3):
            client.writer(datas3t).close()
    assert len(list((state_home / "datas3t" / "writers").glob("*/unnamed-*"))) == 3


def test_an_id_that_is_in_use_is_refused(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, writer_id="mine"):
        with pytest.raises(FailedPrecondition, match=r"writer 'mine' of .* is in use"):
            client.writer(datas3t, writer_id="mine")
        client.writer(datas3t, writer_id="other").close()
    client.writer(datas3t, writer_id="mine").close()


@pytest.mark.parametrize("writer_id", ["", ".", "../up", "a/b", "a b", "x" * 101, "ä", "a\0", "a\n"])
def test_an_id_that_is_no_name_is_refused(client: Client, writer_id: str) -> None:
    with pytest.raises(InvalidArgument, match="writer"):
        client.writer("images", writer_id=writer_id)


@pytest.mark.parametrize("extension", ["", ".jpg", "a/b", "a\0b", "\ud800", "x" * 101])
def test_an_extension_that_no_entry_can_have_is_refused(client: Client, datas3t: str, extension: str) -> None:
    with client.writer(datas3t) as out:
        with pytest.raises(InvalidArgument, match="extension"):
            out.append(b"", extension=extension)
        assert out.append(b"") == 1


def test_a_closed_writer_appends_nothing(client: Client, datas3t: str) -> None:
    out = client.writer(datas3t)
    out.append(b"x")
    out.close()
    out.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        out.append(b"y")
    with pytest.raises(FailedPrecondition, match="closed"):
        out.flush()
    assert len(client.datas3t(datas3t)) == 1


def test_an_exception_keeps_what_was_appended_for_the_next_writer(client: Client, datas3t: str) -> None:
    with pytest.raises(RuntimeError) as caught, client.writer(datas3t, writer_id="mine") as out:  # noqa: PT012
        key = out.append(b"kept")
        raise RuntimeError("no more")
    assert "writer 'mine' has not uploaded" in caught.value.__notes__[0]
    assert not client.list_dataranges(datas3t)
    with client.writer(datas3t, writer_id="mine") as out:
        out.append(b"next")
    assert {key: content for key, (_, content) in stored(client, datas3t).items()} == {key: b"kept", key + 1: b"next"}


def test_an_exception_after_a_flush_has_nothing_to_tell(client: Client, datas3t: str) -> None:
    with pytest.raises(RuntimeError) as caught, client.writer(datas3t, writer_id="mine") as out:  # noqa: PT012
        out.append(b"kept")
        out.flush()
        raise RuntimeError("no more")
    assert not hasattr(caught.value, "__notes__")


def test_what_a_writer_without_id_has_left_is_named(client: Client, datas3t: str) -> None:
    with pytest.raises(RuntimeError), client.writer(datas3t) as out:  # noqa: PT012
        out.append(b"kept")
        raise RuntimeError("no more")
    with pytest.warns(RuntimeWarning, match=f"writer_id='{out.writer_id}'"), client.writer(datas3t) as other:
        other.append(b"other")
    assert other.writer_id != out.writer_id
    client.writer(datas3t, writer_id=out.writer_id).close()
    assert {content for _, content in stored(client, datas3t).values()} == {b"kept", b"other"}
    client.writer(datas3t).close()  # nothing to warn of any more


def test_many_threads_append(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, archive_size=16 * SMALL) as out:

        def work(thread: int) -> dict[int, bytes]:
            contents = [f"{thread} {number}".encode() * 20 for number in range(50)]
            return {out.append(content if thread % 2 else io.BytesIO(content)): content for content in contents}

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(work, range(8)))
    expected = {key: content for result in results for key, content in result.items()}
    assert sorted(expected) == list(range(1, 401))
    assert {key: content for key, (_, content) in stored(client, datas3t).items()} == expected


def test_threads_flush_while_others_append(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, archive_size=SMALL) as out:

        def work(_: int) -> None:
            for _ in range(5):
                key = out.append(b"x" * 600)
                out.flush()
                assert client.datas3t(datas3t).get(key) == b"x" * 600

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
    assert len(client.datas3t(datas3t)) == 20


def test_a_datas3t_that_does_not_exist_is_told_by_the_first_append(client: Client) -> None:
    with client.writer("none-such") as out, pytest.raises(NotFound, match="none-such"):
        out.append(b"x")


def test_a_datas3t_that_is_deleted_meanwhile_is_told_and_the_spool_is_kept(
    client: Client, datas3t: str, bucket_name: str
) -> None:
    out = client.writer(datas3t, writer_id="mine")
    key = out.append(b"x")
    client.delete_datas3t(datas3t)
    with pytest.raises(NotFound, match=datas3t):
        out.flush()
    with pytest.raises(NotFound, match=datas3t):
        out.append(b"y")
    with pytest.raises(NotFound, match=datas3t):
        out.close()
    client.add_datas3t(datas3t, bucket=bucket_name)
    client.writer(datas3t, writer_id="mine").close()
    assert client.datas3t(datas3t).get(key) == b"x"


def test_a_state_folder_that_cannot_be_used_is_a_typed_error(client: Client, datas3t: str, state_home: Path) -> None:
    state_home.mkdir()
    (state_home / "datas3t").write_text("a file")
    with pytest.raises(Datas3tError, match=r"spool folder .* cannot be used"):
        client.writer(datas3t)


def test_nothing_is_left_on_disk(client: Client, datas3t: str, state_home: Path) -> None:
    with client.writer(datas3t, archive_size=SMALL) as out:
        for _ in range(20):
            out.append(b"x" * 900)
    assert not [thread for thread in threading.enumerate() if thread.name == "datas3t-writer"]
    assert {path.name for path in state_home.rglob("*") if path.is_file()} <= {"lock", "keys.json"} | {
        path.name for path in (state_home / "cache").rglob("*")
    }


def rows(client: Client, name: str, table: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = client.datas3t(name).table(table).read().to_pylist()
    return found


def test_paths_and_columns_are_committed_with_their_datapoints(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, archive_size=SMALL, table="labels") as out:
        for number in range(20):
            label = {"label": f"label {number}"} if number % 3 else {}
            out.append(b"x" * 900, path=f"folder/{number}.jpg", number=number, score=None, **label)
    handle = client.datas3t(datas3t)
    assert [row["path"] for row in rows(client, datas3t, "files")] == [f"folder/{number}.jpg" for number in range(20)]
    assert rows(client, datas3t, "labels")[:3] == [
        {"key": 1, "number": 0, "label": None},
        {"key": 2, "number": 1, "label": "label 1"},
        {"key": 3, "number": 2, "label": "label 2"},
    ]
    assert handle.find("folder/7.jpg") == 8
    assert len(handle.keys) == 20
    assert [each.name[-4:] for each in handle.scan(1, 2)] == [".jpg", ".jpg"]
    assert {info.name: info.files for info in handle.tables()} == {
        "files": len(handle.list_dataranges()),
        "labels": len(handle.list_dataranges()),
    }


def test_the_row_of_a_path_has_size_and_checksum(client: Client, datas3t: str) -> None:
    with client.writer(datas3t) as out:
        out.append(b"one", path=b"caf\xe9.txt")
        out.append(b"two")
        out.append(b"three", path=Path("a") / "100%.tar.gz")
    assert rows(client, datas3t, "files") == [
        {"key": 1, "path": "caf%E9.txt", "size": 3, "mtime": None, "crc32c": crc(b"one")},
        {"key": 3, "path": "a/100%25.tar.gz", "size": 5, "mtime": None, "crc32c": crc(b"three")},
    ]
    assert [each.name for each in client.datas3t(datas3t).scan()] == [
        f"{1:020d}.txt",
        f"{2:020d}.bin",
        f"{3:020d}.tar.gz",
    ]


def test_a_type_that_the_table_does_not_have_is_refused_when_it_is_appended(client: Client, datas3t: str) -> None:
    with client.writer(datas3t, table="labels") as out:
        out.append(b"one", label="cat", score=1.5)
    with client.writer(datas3t, table="labels") as out:
        with pytest.raises(InvalidArgument, match="'label' is string, and 5 is int64"):
            out.append(b"two", label=5)
        out.append(b"two", label="dog", score=2)
    assert rows(client, datas3t, "labels") == [
        {"key": 1, "label": "cat", "score": 1.5},
        {"key": 2, "label": "dog", "score": 2.0},
    ]


def test_columns_need_a_table_and_the_table_files_is_not_for_columns(client: Client, datas3t: str) -> None:
    with client.writer(datas3t) as out, pytest.raises(InvalidArgument, match="'label' needs a table"):
        out.append(b"x", label="cat")
    with pytest.raises(InvalidArgument, match="'files' has columns of its own"):
        client.writer(datas3t, table="files")
    with pytest.raises(InvalidArgument, match="'a/b' is not named by"):
        client.writer(datas3t, table="a/b")


@pytest.mark.parametrize("path", ["", "a\0b", b"", "\ud800"])
def test_a_path_that_no_file_can_have_is_refused(client: Client, datas3t: str, path: str | bytes) -> None:
    with client.writer(datas3t) as out, pytest.raises(InvalidArgument):
        out.append(b"x", path=path)
    assert not client.list_dataranges(datas3t)


def test_without_pyarrow_paths_and_columns_are_refused_and_the_rest_works(
    client: Client, datas3t: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "datas3t.client._tables.arrow", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with client.writer(datas3t, table="labels") as out:
        for extra in ({"path": "a"}, {"label": "cat"}):
            with pytest.raises(PackageMissing, match=r"datas3t\[tables\]"):
                out.append(b"x", **extra)
        out.append(b"x")
    assert len(client.datas3t(datas3t)) == 1


def test_rows_of_a_spool_that_was_left_go_to_its_own_table(client: Client, datas3t: str) -> None:
    with pytest.raises(RuntimeError), client.writer(datas3t, writer_id="mine", table="labels") as out:  # noqa: PT012
        out.append(b"x", path="a.txt", label="cat")
        raise RuntimeError("no more")
    client.writer(datas3t, writer_id="mine").close()
    assert rows(client, datas3t, "labels") == [{"key": 1, "label": "cat"}]
    assert client.datas3t(datas3t).find("a.txt") == 1
