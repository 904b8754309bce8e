"""An archive and table files are completed in one transaction, or none of them is."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from datas3t import v1
from datas3t.server import aggregates, dataranges, datas3ts, tables, uploads
from datas3t.server.errors import Failure
from tests.support.tables import add_file, ids, parquet, send_file, table_objects
from tests.support.uploads import Site, archive, put, put_data, run_concurrently


def failure(call: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def complete(site: Site, sent: tuple[int, list[str]], files: Sequence[int]) -> None:
    uploads.complete(site.resources, *sent, table_file_ids=files)


def ranges(site: Site) -> list[tuple[int, int]]:
    return [(row.first_key, row.last_key) for row in dataranges.page(site.resources, "images", 0, "")[0]]


def test_an_upload_is_completed_with_its_files(site: Site) -> None:
    sent = site.send(archive(1, b"one", b"two"))
    files = [send_file(site, 1, 2, table="files"), send_file(site, 1, 2)]
    for _ in range(2):
        complete(site, sent, files)
    assert ranges(site) == [(1, 2)]
    assert (ids(site, "files"), ids(site)) == (files[:1], files[1:])
    for each in files:
        tables.complete(site.resources, each)  # as any repeated completion


def test_calls_at_the_same_moment_have_the_same_outcome(site: Site) -> None:
    sent = site.send(archive(1, b"one", b"two"))
    files = [send_file(site, 1, 2, table="files"), send_file(site, 1, 2)]
    assert run_concurrently([partial(complete, site, sent, files)] * 6) == [0] * 6
    assert (ids(site, "files"), ids(site)) == (files[:1], files[1:])


def test_a_repeat_with_other_files_does_not_pretend_that_they_are_complete(site: Site) -> None:
    sent, done = site.send(archive(1, b"one", b"two")), send_file(site, 1, 2)
    complete(site, sent, [done])
    pending, cancelled = send_file(site, 1, 2), send_file(site, 1, 2)
    tables.cancel(site.resources, cancelled)
    for late, reason in (
        (pending, v1.ERROR_REASON_UPLOAD_COMPLETED),
        (cancelled, v1.ERROR_REASON_TABLE_FILE_CANCELLED),
        (1 << 40, v1.ERROR_REASON_TABLE_FILE_NOT_FOUND),
        ((1 << 64) - 1, v1.ERROR_REASON_TABLE_FILE_NOT_FOUND),
    ):
        refused = failure(partial(complete, site, sent, [done, late]))
        assert (refused.reason, str(late) in refused.message) == (reason, True)
    tables.complete(site.resources, pending)
    complete(site, sent, [done, pending])
    assert ids(site) == [done, pending]


def test_of_calls_with_different_files_at_the_same_moment_one_succeeds(site: Site) -> None:
    sent = site.send(archive(1, b"one", b"two"))
    files = [send_file(site, 1, 2) for _ in range(6)]
    outcomes = run_concurrently([partial(complete, site, sent, [each]) for each in files])
    assert sorted(outcomes) == [0] + [v1.ERROR_REASON_UPLOAD_COMPLETED] * 5
    assert ids(site) == [files[outcomes.index(0)]]


def test_nothing_is_committed_if_a_file_is_wrong_and_another_one_may_take_its_place(site: Site) -> None:
    sent = site.send(archive(1, b"one", b"two"))
    good, wrong = send_file(site, 1, 2, table="files"), send_file(site, 1, 2, data=b"x" * 40)
    refused = failure(lambda: complete(site, sent, [good, wrong]))
    assert (refused.reason, refused.metadata["table_file_id"]) == (v1.ERROR_REASON_TABLE_FILE_INVALID, str(wrong))
    assert ranges(site) == []
    assert failure(lambda: complete(site, sent, [good, wrong])).reason == v1.ERROR_REASON_TABLE_FILE_INVALID
    complete(site, sent, [good, send_file(site, 1, 2)])
    assert ranges(site) == [(1, 2)]
    site.sweep()
    assert len(table_objects(site)) == 2


def test_files_stay_pending_if_the_archive_is_wrong(site: Site) -> None:
    site.upload(archive(2, b"two"))
    started = uploads.start(site.resources, "images", 3, 2, 10_240)
    given = archive(3, b"three", b"four")
    put(started.index_put_url, bytes(32))
    put_data(started, given.data)
    file_id = send_file(site, 3, 4)
    refused = failure(lambda: uploads.complete(site.resources, started.upload.id, [], table_file_ids=[file_id]))
    assert refused.reason == v1.ERROR_REASON_UPLOAD_INVALID
    complete(site, site.send(given), [file_id])
    assert ids(site) == [file_id]


def test_files_stay_pending_if_the_archive_overlaps_another_one(site: Site) -> None:
    sent = site.send(archive(1, b"one", b"two"))
    site.upload(archive(2, b"two"))
    file_id = send_file(site, 1, 2)
    refused = failure(lambda: complete(site, sent, [file_id]))
    assert (refused.reason, refused.metadata["datas3t"]) == (v1.ERROR_REASON_DATARANGE_OVERLAPS, "images")
    tables.complete(site.resources, file_id)
    assert ids(site) == [file_id]


@pytest.mark.parametrize("kind", ["never was", "of another datas3t", "cancelled", "completed", "twice", "too many"])
def test_files_that_cannot_be_completed_leave_the_upload_open(site: Site, kind: str) -> None:
    sent = site.send(archive(1, b"one"))
    file_id = send_file(site, 1, 1)
    expected, files = v1.ERROR_REASON_TABLE_FILE_NOT_FOUND, [file_id]
    if kind == "never was":
        files = [1 << 63]
    elif kind == "of another datas3t":
        datas3ts.add(site.resources, "other", "local")
        files = [tables.start(site.resources, "other", "labels", 1, 1, 40).upload.id]
    elif kind == "cancelled":
        tables.cancel(site.resources, file_id)
        expected = v1.ERROR_REASON_TABLE_FILE_CANCELLED
    elif kind == "completed":
        tables.complete(site.resources, file_id)
        expected = v1.ERROR_REASON_TABLE_FILE_COMPLETED
    else:
        files = [file_id, file_id] if kind == "twice" else list(range(1, 102))
        expected = v1.ERROR_REASON_INVALID_VALUE
    assert failure(lambda: complete(site, sent, files)).reason == expected
    assert ranges(site) == []
    complete(site, sent, [])
    assert ranges(site) == [(1, 1)]


def test_a_replacement_is_part_of_the_transaction(site: Site) -> None:
    old = add_file(site, 1, 1)
    new = send_file(site, 1, 1, replaces=[old])
    complete(site, site.send(archive(1, b"one")), [new])
    assert ids(site) == [new]
    sent = site.send(archive(2, b"two"))
    again = send_file(site, 1, 2, replaces=[new])
    tables.drop(site.resources, "images", "labels")
    assert failure(lambda: complete(site, sent, [again])).reason == v1.ERROR_REASON_TABLE_FILE_CANCELLED
    assert ranges(site) == [(1, 1)]


def test_a_file_that_may_not_replace_any_more_ends_and_the_upload_stays_open(site: Site) -> None:
    site.upload(archive(1, b"one"))
    old = add_file(site, 1, 1)
    new = send_file(site, 1, 2, replaces=[old])
    sent = site.send(archive(2, b"two"))
    dataranges.delete(site.resources, "images", 1, 1)
    for _ in range(2):
        assert failure(lambda: complete(site, sent, [new])).reason == v1.ERROR_REASON_TABLE_FILES_CHANGED
    assert ranges(site) == []
    complete(site, sent, [send_file(site, 2, 2)])
    assert ranges(site) == [(2, 2)]


def test_an_aggregate_is_completed_with_files(site: Site) -> None:
    sources = [archive(1, b"one"), archive(2, b"two")]
    for each in sources:
        site.upload(each)
    merged = archive(1, b"one", b"two")

    def start() -> int:
        started = aggregates.start(site.resources, "images", 1, 2)
        put(started.data_put_url, merged.data)
        put(started.index_put_url, merged.index)
        return started.aggregate.id

    wrong, good = send_file(site, 1, 2, data=parquet(41)[:-1] + b"x"), send_file(site, 1, 2)
    aggregate = start()
    refused = failure(lambda: aggregates.complete(site.resources, aggregate, [], table_file_ids=[wrong, good]))
    assert refused.reason == v1.ERROR_REASON_TABLE_FILE_INVALID
    assert ranges(site) == [(1, 1), (2, 2)]
    for _ in range(2):
        aggregates.complete(site.resources, aggregate, [], table_file_ids=[good])
    late = send_file(site, 1, 2)
    refused = failure(lambda: aggregates.complete(site.resources, aggregate, [], table_file_ids=[late]))
    assert refused.reason == v1.ERROR_REASON_AGGREGATE_COMPLETED
    assert ranges(site) == [(1, 2)]
    assert ids(site) == [good]
