"""Table files: started, sent, completed, listed, replaced, dropped."""

from collections.abc import Callable
from functools import partial
from urllib.request import urlopen

import pytest

from datas3t import v1
from datas3t.archive.names import MAX_KEY, parse_table_file, table_file_key
from datas3t.server import dataranges, tables
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from tests.support.tables import add_file, files, ids, parquet, send_file, table_objects
from tests.support.uploads import Site, archive, put, run_concurrently


def failure(call: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def reason(call: Callable[[], object]) -> int:
    return failure(call).reason


def execute(site: Site, statement: str) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute(statement.encode())


def expire(site: Site) -> None:
    """Let all that waits in the queue for later come due."""
    execute(site, "UPDATE keys_to_delete SET due_at = now(), look_again_at = NULL")


def test_a_file_is_sent_and_found_by_its_table(site: Site) -> None:
    data = parquet()
    started = tables.start(site.resources, "images", "labels", 5, 20, len(data))
    assert started.upload.data_object_key == table_file_key("images", "labels", 5, 20, 1)
    put(started.put_url, data)
    tables.complete(site.resources, started.upload.id)
    tables.complete(site.resources, started.upload.id)
    (found,) = files(site)
    row = found.file
    assert (row.id, row.first_key, row.last_key, row.counter, row.size_bytes) == (started.upload.id, 5, 20, 1, 40)
    with urlopen(found.url, timeout=30) as response:
        assert response.read() == data
        assert response.headers["ETag"].strip('"') == row.etag
    listed, token = tables.page(site.resources, "images", 0, "")
    assert [tuple(each) for each in listed] == [("labels", 1, 40, 5, 20)]
    assert token == ""


def test_archives_and_table_files_draw_from_one_counter(site: Site) -> None:
    site.upload(archive(1, b"one"))
    add_file(site, 1, 1)
    site.upload(archive(2, b"two"))
    assert sorted(key.rsplit("-", 1)[1] for key in site.objects() if not key.endswith(".index")) == [
        "000000000001.tar",
        "000000000002.parquet",
        "000000000003.tar",
    ]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("a b", "labels", 1, 2, 40), "datas3t_name"),
        (("images", "", 1, 2, 40), "table"),
        (("images", "a/b", 1, 2, 40), "table"),
        (("images", "labels", 3, 2, 40), "last_key"),
        (("images", "labels", 3, MAX_KEY + 1, 40), "last_key"),
        (("images", "labels", 1, 2, 11), "size"),
        (("images", "labels", 1, 2, (5 << 30) + 1), "size"),
        (("images", "labels", 1, 2, 40, [0]), "replaces"),
        (("images", "labels", 1, 2, 40, [1 << 63]), "replaces"),
        (("images", "labels", 1, 2, 40, [7, 7]), "replaces"),
        (("images", "labels", 1, 2, 40, range(1, 10_002)), "replaces"),
    ],
)
def test_wrong_values_start_nothing(site: Site, arguments: tuple[str, str, int, int, int], field: str) -> None:
    refused = failure(lambda: tables.start(site.resources, *arguments))
    assert (refused.reason, refused.metadata["field"]) == (v1.ERROR_REASON_INVALID_VALUE, field)


def test_names_that_are_not_there_are_not_found(site: Site) -> None:
    resources = site.resources
    for call in (
        lambda: tables.start(resources, "nowhere", "labels", 1, 2, 40),
        lambda: tables.start(resources, "nowhere", "labels", 1, 2, 40, [7]),
        lambda: tables.page(resources, "nowhere", 0, ""),
        lambda: tables.presign(resources, "nowhere", "labels", None, None),
        lambda: tables.drop(resources, "nowhere", "labels"),
    ):
        assert reason(call) == v1.ERROR_REASON_DATAS3T_NOT_FOUND
    for span in ((None, None), (1, 2)):
        assert reason(partial(files, site, "labels", *span)) == v1.ERROR_REASON_TABLE_NOT_FOUND
    assert reason(lambda: tables.drop(resources, "images", "x")) == v1.ERROR_REASON_TABLE_NOT_FOUND
    for file_id in (0, 7, 1 << 63):
        for function in (tables.complete, tables.cancel):
            assert reason(partial(function, resources, file_id)) == v1.ERROR_REASON_TABLE_FILE_NOT_FOUND


@pytest.mark.parametrize(
    ("sent", "announced", "message"),
    [
        (None, 40, "was never uploaded"),
        (parquet(41), 40, "has 41 bytes instead of 40"),
        (b"x" * 40, 40, "does not begin and end as a Parquet file"),
        (parquet(40)[:-1] + b"2", 40, "does not begin and end as a Parquet file"),
        (b"PAR2" + parquet(40)[4:], 40, "does not begin and end as a Parquet file"),
        (parquet(40_000)[:-1] + b"2", 40_000, "does not begin and end as a Parquet file"),
        (b"x" + parquet(40_000)[1:], 40_000, "does not begin and end as a Parquet file"),
        (b"", 40, "has 0 bytes instead of 40"),
    ],
)
def test_an_object_that_is_wrong_ends_the_file(site: Site, sent: bytes | None, announced: int, message: str) -> None:
    started = tables.start(site.resources, "images", "labels", 1, 2, announced)
    if sent is not None:
        site.s3.put_object(Bucket=site.bucket, Key=started.upload.data_object_key, Body=sent)
    for _ in range(2):
        refused = failure(lambda: tables.complete(site.resources, started.upload.id))
        assert refused.reason == v1.ERROR_REASON_TABLE_FILE_INVALID
        assert message in refused.message
        assert refused.metadata["table_file_id"] == str(started.upload.id)
    site.sweep()
    assert table_objects(site) == []


def test_a_large_file_is_checked_by_its_ends(site: Site) -> None:
    add_file(site, 1, 2, data=parquet(300_000))
    assert files(site)[0].file.size_bytes == 300_000


def test_a_cancelled_file_is_gone(site: Site) -> None:
    file_id = send_file(site, 1, 2)
    for _ in range(2):
        tables.cancel(site.resources, file_id)
    assert reason(lambda: tables.complete(site.resources, file_id)) == v1.ERROR_REASON_TABLE_FILE_CANCELLED
    site.sweep()
    assert table_objects(site) == []
    done = add_file(site, 1, 2)
    assert reason(lambda: tables.cancel(site.resources, done)) == v1.ERROR_REASON_TABLE_FILE_COMPLETED


def test_the_reaper_takes_what_was_abandoned_and_what_a_late_put_leaves(site: Site) -> None:
    file_id = send_file(site, 1, 2)
    execute(site, "UPDATE table_uploads SET expires_at = now()")
    site.sweep()
    assert table_objects(site) == []
    assert reason(lambda: tables.complete(site.resources, file_id)) == v1.ERROR_REASON_TABLE_FILE_CANCELLED
    site.s3.put_object(Bucket=site.bucket, Key=table_file_key("images", "labels", 1, 2, 1), Body=b"late")
    execute(site, "UPDATE keys_to_delete SET due_at = now()")
    site.sweep()
    assert table_objects(site) == []
    execute(site, "UPDATE table_uploads SET finished_at = now() - interval '4 days'")
    site.sweep()
    assert reason(lambda: tables.complete(site.resources, file_id)) == v1.ERROR_REASON_TABLE_FILE_NOT_FOUND


def test_files_of_a_span_are_those_that_may_have_its_keys(site: Site) -> None:
    spans = [(0, 9), (5, 20), (30, MAX_KEY), (7, 7), (0, MAX_KEY)]
    made = [add_file(site, *span) for span in spans]
    add_file(site, 0, 100, table="other")
    for first, last in [(0, 0), (7, 7), (8, 8), (10, 29), (21, 29), (30, MAX_KEY), (MAX_KEY, MAX_KEY), (0, MAX_KEY)]:
        expected = [each for each, span in zip(made, spans, strict=True) if span[0] <= last and span[1] >= first]
        assert ids(site, "labels", first, last) == expected
    assert ids(site) == made
    assert ids(site, "labels", 25) == [made[2], made[4]]
    assert ids(site, "labels", None, 4) == [made[0], made[4]]


def test_listings_have_pages(site: Site) -> None:
    made = [add_file(site, number, number + 5) for number in range(5)]
    for span in ((None, None), (1, 6)):
        found, token = [], ""
        while True:
            page, token, _ = tables.presign(site.resources, "images", "labels", *span, size=2, token=token)
            found += [each.file.id for each in page]
            if not token:
                break
        assert found == made
    for name in ("b", "a", "labels_2"):
        add_file(site, 1, 1, table=name)
    names, token = [], ""
    while True:
        listed, token = tables.page(site.resources, "images", 2, token)
        names += [(each.name, each.file_count) for each in listed]
        if not token:
            break
    assert names == [("a", 1), ("b", 1), ("labels", 5), ("labels_2", 1)]


def test_a_clear_between_two_pages_is_an_error(site: Site) -> None:
    for number in range(3):
        add_file(site, number, number)
    _, token, _ = tables.presign(site.resources, "images", "labels", None, None, size=2)
    site.clear()
    add_file(site, 1, 1)
    changed = failure(lambda: tables.presign(site.resources, "images", "labels", None, None, token=token))
    assert changed.reason == v1.ERROR_REASON_LISTING_CHANGED


def test_a_compaction_swaps_at_once_and_keeps_what_it_replaced_until_urls_have_expired(site: Site) -> None:
    old = [add_file(site, 1, 5), add_file(site, 6, 9), add_file(site, 3, 7)]
    kept = add_file(site, 100, 200)
    before = files(site)
    new = add_file(site, 1, 9, replaces=old)
    assert ids(site) == [kept, new]
    tables.complete(site.resources, new)
    site.sweep()
    for each in before:
        with urlopen(each.url, timeout=30) as response:
            assert response.read()[:4] == b"PAR1"
    expire(site)
    assert site.sweep() == 3
    assert len(table_objects(site)) == 2


@pytest.mark.parametrize("add_newer", [add_file, send_file], ids=["committed", "pending"])
def test_a_newer_file_with_keys_in_common_stands_against_a_compaction(
    site: Site, add_newer: Callable[[Site, int, int], int]
) -> None:
    old = [add_file(site, 1, 5), add_file(site, 6, 9)]
    newer = add_newer(site, 9, 20)
    refused = failure(lambda: send_file(site, 1, 9, replaces=old))
    assert (refused.reason, refused.metadata["newer"]) == (v1.ERROR_REASON_TABLE_FILES_CHANGED, str(newer))
    send_file(site, 1, 5, replaces=old[:1])  # it has no keys in common with the newer one
    add_file(site, 9, 9, table="other")
    if add_newer is send_file:
        tables.cancel(site.resources, newer)
        add_file(site, 6, 9, replaces=old[1:])
    else:
        add_file(site, 6, 20, replaces=[old[1], newer])


def test_older_files_and_those_that_start_later_do_not_stand_against_a_compaction(site: Site) -> None:
    older = add_file(site, 1, 100)
    replaced = add_file(site, 1, 9)
    compacted = send_file(site, 1, 9, replaces=[replaced])
    later = add_file(site, 2, 3)
    tables.complete(site.resources, compacted)
    assert ids(site) == [older, compacted, later]


def test_a_compaction_ends_if_what_it_replaces_is_gone(site: Site) -> None:
    site.upload(archive(1, b"one", b"two"))
    old = [add_file(site, 1, 2), add_file(site, 6, 9)]
    compacted = send_file(site, 1, 9, replaces=old)
    assert reason(lambda: send_file(site, 1, 9, replaces=old)) == v1.ERROR_REASON_TABLE_FILES_CHANGED  # it is pending
    dataranges.delete(site.resources, "images", 1, 2)
    for _ in range(2):
        assert reason(lambda: tables.complete(site.resources, compacted)) == v1.ERROR_REASON_TABLE_FILES_CHANGED
    assert ids(site) == old[1:]
    gone = failure(lambda: send_file(site, 1, 9, replaces=old))
    assert gone.message.startswith("1 of the files to be replaced are not in table 'labels'")
    other = add_file(site, 1, 5, table="other")
    assert reason(lambda: send_file(site, 1, 9, replaces=[other])) == v1.ERROR_REASON_TABLE_FILES_CHANGED


def test_what_is_replaced_must_lie_within_the_new_file(site: Site) -> None:
    old = add_file(site, 1, 5)
    for span in ((2, 9), (0, 4)):
        refused = failure(partial(send_file, site, *span, replaces=[old]))
        assert refused.reason == v1.ERROR_REASON_INVALID_VALUE
        assert "which has keys outside" in refused.message


def test_concurrent_completions_have_one_outcome(site: Site) -> None:
    old = [add_file(site, 1, 5)]
    file_id = send_file(site, 1, 9, replaces=old)
    assert run_concurrently([partial(tables.complete, site.resources, file_id)] * 8) == [0] * 8
    assert ids(site) == [file_id]


def test_a_dropped_table_is_gone_with_its_pending_files(site: Site) -> None:
    add_file(site, 1, 5)
    add_file(site, 6, 9)
    pending = send_file(site, 1, 5)
    other = add_file(site, 1, 5, table="other")
    assert tables.drop(site.resources, "images", "labels") == 2
    assert reason(lambda: tables.drop(site.resources, "images", "labels")) == v1.ERROR_REASON_TABLE_NOT_FOUND
    assert reason(lambda: tables.complete(site.resources, pending)) == v1.ERROR_REASON_TABLE_FILE_CANCELLED
    site.sweep()
    assert [parse_table_file(key) is not None for key in table_objects(site)] == [True]
    assert ids(site, "other") == [other]


def test_clearing_and_deleting_remove_tables(site: Site) -> None:
    site.upload(archive(1, b"one"))
    add_file(site, 1, 5)
    pending = send_file(site, 1, 5)
    assert site.clear() == (1, 3)
    assert site.clear() == (0, 0)
    assert reason(lambda: files(site)) == v1.ERROR_REASON_TABLE_NOT_FOUND
    assert reason(lambda: tables.complete(site.resources, pending)) == v1.ERROR_REASON_TABLE_FILE_CANCELLED
    site.sweep()
    assert site.objects() == []
    for number in range(3):
        add_file(site, number, 5)
    site.delete()
    site.sweep()
    assert site.objects() == []
    site.add()
    assert tables.page(site.resources, "images", 0, "") == ([], "")
    add_file(site, 1, 5)
    assert table_objects(site)[0].endswith("-000000000007.parquet")


def test_deleting_a_datarange_removes_the_files_that_lie_within_it(site: Site) -> None:
    site.upload(archive(10, b"a", b"b", b"c"))
    site.upload(archive(13, b"d"))
    within = [(10, 12), (11, 11)]
    others = [(9, 12), (10, 13), (13, 13), (0, MAX_KEY)]
    for span in within + others:
        add_file(site, *span)
        add_file(site, *span, table="other")
    dataranges.delete(site.resources, "images", 10, 12)
    for table in ("labels", "other"):
        assert [(each.file.first_key, each.file.last_key) for each in files(site, table)] == others
    site.sweep()
    assert len(table_objects(site)) == 2 * len(others)
