"""Import: table files that are in a bucket and not in the database are found again."""

from typing import TYPE_CHECKING

import pytest

from datas3t.archive.names import table_file_key
from datas3t.server import dataranges, datas3ts, imports, keys, tables
from datas3t.server.imports import Step, table_files
from datas3t.server.imports.listing import Skipped
from tests.support.stack import BucketPool
from tests.support.tables import add_file, files, ids, parquet, send_file, table_objects
from tests.support.uploads import Site, add_bucket, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def run(site: Site) -> tuple[list[str], list[str], dict[str, str]]:
    """Import, and return the datas3ts, the tables, and the skipped objects with their reasons."""
    steps: list[Step] = list(imports.run(site.resources, "local"))
    found = [name for step in steps for name in step.imported]
    assert steps[-1].imported_count == len(found)
    skipped = {each.key: each.reason for step in steps for each in step.skipped}
    return found, [name for step in steps for name in step.imported_tables], skipped


def spans(site: Site, table: str = "labels") -> list[tuple[int, int, int, int, str]]:
    rows = [each.file for each in files(site, table)]
    return [(row.first_key, row.last_key, row.counter, row.size_bytes, row.etag) for row in rows]


def test_tables_are_found_again_with_their_counters(site: Site, empty_site: Site) -> None:
    site.upload(archive(1, b"one", b"two"))
    add_file(site, 1, 2)
    add_file(site, 1, 2, data=parquet(50_000))
    add_file(site, 5, 9, table="files")
    assert run(empty_site) == (["images"], ["images/files", "images/labels"], {})
    for table in ("labels", "files"):
        assert spans(empty_site, table) == spans(site, table)
    assert run(empty_site) == ([], [], {})
    add_file(site, 3, 3)
    assert run(empty_site) == ([], ["images/labels"], {})
    assert tables.start(empty_site.resources, "images", "labels", 1, 1, 40).upload.counter == 6
    assert keys.reserve(empty_site.resources, "images", 1, "a").first_key == 10


def test_counters_and_keys_are_above_those_of_tables_that_are_yet_to_be_imported(
    site: Site, empty_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.upload(archive(1, b"one", b"two"))
    add_file(site, 1, 20)
    monkeypatch.setattr(table_files, "run", lambda *_: iter(()))
    assert run(empty_site) == (["images"], [], {})
    assert keys.reserve(empty_site.resources, "images", 1, "a").first_key == 21
    assert tables.start(empty_site.resources, "images", "labels", 1, 1, 40).upload.counter == 3


def test_a_datas3t_that_has_tables_alone_is_found(site: Site, empty_site: Site) -> None:
    add_file(site, 1, 2)
    assert run(empty_site) == (["images"], ["images/labels"], {})


def test_adding_a_datas3t_continues_above_the_counters_of_its_table_files(site: Site, empty_site: Site) -> None:
    for _ in range(3):
        add_file(site, 1, 20)
    empty_site.add()
    assert tables.start(empty_site.resources, "images", "labels", 1, 1, 40).upload.counter == 4
    assert keys.reserve(empty_site.resources, "images", 1, "a").first_key == 21


def test_objects_that_are_no_table_files_are_skipped_with_reasons(site: Site, empty_site: Site) -> None:
    add_file(site, 1, 2)
    objects = {
        table_file_key("images", "labels", 1, 2, 7): b"PAR1" + bytes(40),
        table_file_key("images", "labels", 1, 2, 8): b"PAR1",
        table_file_key("images", "labels", 1, 2, 9): b"",
        table_file_key("images", "labels", 1, 2, 10): bytes(40) + b"PAR1",
        "datas3t/images/tables/labels/notes.parquet": parquet(),
        "datas3t/images/tables/labels/notes.txt": b"not mentioned",
        "datas3t/images/tables/a.b/00000000000000000001-00000000000000000002-000000000011.parquet": parquet(),
    }
    for key, data in objects.items():
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=data)
    _, imported, skipped = run(empty_site)
    assert imported == ["images/labels"]
    assert len(files(empty_site)) == 1
    assert skipped.keys() == {key for key in objects if not key.endswith(".txt")}
    assert sorted(set(skipped.values())) == [
        "it does not begin and end as a Parquet file",
        "it is too small for a Parquet file",
        "its name is not that of a table's file",
    ]
    assert tables.start(empty_site.resources, "images", "labels", 1, 1, 40).upload.counter == 11


def test_of_files_with_the_same_counter_one_is_taken(site: Site, empty_site: Site) -> None:
    for first in (1, 2):
        key = table_file_key("images", "labels", first, 2, 7)
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=parquet())
    for _ in range(2):
        assert run(empty_site)[2] == {key: "another file of its table has its counter, or another call uses it"}
    assert len(files(empty_site)) == 1


def test_what_is_pending_or_to_be_deleted_is_left_alone(site: Site) -> None:
    site.upload(archive(1, b"one"))
    pending = send_file(site, 1, 2)
    cancelled = send_file(site, 1, 2)
    tables.cancel(site.resources, cancelled)
    old = add_file(site, 1, 2, table="other")
    add_file(site, 1, 2, table="other", replaces=[old])
    add_file(site, 1, 1)
    dataranges.delete(site.resources, "images", 1, 1)
    found, imported, skipped = run(site)
    assert (found, imported) == ([], [])
    assert sorted(reason for key, reason in skipped.items() if "/tables/" in key) == [
        "it belongs to a pending table file",
        *["it is queued for deletion"] * 3,
    ]
    tables.complete(site.resources, pending)
    assert ids(site) == [pending]


def test_cleared_and_deleted_tables_do_not_come_back(site: Site) -> None:
    add_file(site, 1, 2)
    site.clear()
    _, imported, skipped = run(site)
    assert imported == []
    assert list(skipped.values()) == ["it is queued for deletion"]
    add_file(site, 1, 2)
    site.delete()
    assert run(site)[:2] == ([], [])
    site.sweep()
    assert table_objects(site) == []
    assert run(site) == ([], [], {})


def test_files_of_a_datas3t_on_another_bucket_are_left_alone(
    site: Site, services: "Services", buckets: BucketPool
) -> None:
    add_file(site, 1, 2)
    with buckets.lend() as name:
        add_bucket(site.resources, services.s3, name, "second")
        key = table_file_key("images", "labels", 1, 2, 70)
        site.s3.put_object(Bucket=name, Key=key, Body=parquet())
        steps = list(imports.run(site.resources, "second"))
    assert [each for step in steps for each in step.skipped] == [
        Skipped(key, "datas3t 'images' is on another bucket configuration")
    ]
    assert tables.start(site.resources, "images", "labels", 1, 1, 40).upload.counter == 2


@pytest.mark.parametrize("removal", ["drop", "clear"])
def test_files_that_go_while_they_are_checked_get_no_row(
    site: Site, empty_site: Site, removal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_file(site, 1, 2)
    run(empty_site)
    with empty_site.resources.pool.connection() as conn:
        conn.execute("DELETE FROM table_files")
    checked = table_files._Page._whole

    def remove_first(page: object, found: object) -> object:
        monkeypatch.setattr(table_files._Page, "_whole", checked)
        whole = checked(page, found)  # type: ignore[arg-type]
        list(imports.run(empty_site.resources, "local"))  # another import adds the file, and then it is removed
        if removal == "drop":
            tables.drop(empty_site.resources, "images", "labels")
        else:
            datas3ts.clear(empty_site.resources, "images")
        empty_site.sweep()
        with empty_site.resources.pool.connection() as conn:
            conn.execute("DELETE FROM keys_to_delete")  # as after its second look
        return whole

    monkeypatch.setattr(table_files._Page, "_whole", remove_first)
    _, imported, _ = run(empty_site)
    assert imported == []
    assert tables.page(empty_site.resources, "images", 0, "") == ([], "")
    assert table_objects(site) == []
