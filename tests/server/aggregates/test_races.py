"""Aggregates that run concurrently with each other, and with uploads, deletions and readers."""

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from datas3t import v1
from datas3t.server import aggregates, dataranges, datas3ts, uploads
from datas3t.server.aggregates.planned import check_planned
from datas3t.server.db import keys_to_delete
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.objects.spool import put_once
from datas3t.server.s3.bucket import Bucket
from tests.support.aggregates import (
    aggregate,
    bounds,
    merge,
    rows,
    send_merged,
    send_planned,
    start,
    stored,
    upload_some,
)
from tests.support.importing import put_index_in_parts
from tests.support.uploads import DONE, Site, archive, get, run_concurrently

CHANGED = v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED


def completion(site: Site, sent: tuple[int, list[str]]) -> Callable[[], None]:
    return lambda: aggregates.complete(site.resources, *sent)


def assert_clean(site: Site) -> None:
    """Delete all queued objects; check that the bucket holds two objects for each datarange, and nothing else."""
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")
    site.sweep()
    named = {key for row in rows(site) for key in (row.data_object_key, row.index_object_key)}
    assert set(site.objects()) == named
    assert site.multiparts() == []


@pytest.mark.parametrize("attempt", range(3))
def test_one_of_two_aggregates_of_the_same_range_is_committed(site: Site, attempt: int) -> None:
    upload_some(site, 3)
    sent = [send_planned(site, 1, 9) for _ in range(2)]
    assert sorted(run_concurrently([completion(site, each) for each in sent])) == [DONE, CHANGED]
    assert bounds(site) == [(1, 9)]
    assert_clean(site)


@pytest.mark.parametrize("attempt", range(3))
def test_one_of_four_overlapping_aggregates_is_committed(site: Site, attempt: int) -> None:
    upload_some(site, 8)
    sent = [send_planned(site, first, first + 14) for first in (1, 4, 7, 10)]
    results = run_concurrently([completion(site, each) for each in sent])
    assert sorted(results) == [DONE, CHANGED, CHANGED, CHANGED]
    assert sum(last - first + 1 for first, last in bounds(site)) == 24
    assert_clean(site)


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "merged"])
def test_eight_concurrent_completions_make_one_datarange(site: Site, planned: bool) -> None:
    sources = upload_some(site, 3)
    if planned:
        sent = send_planned(site, 1, 9)
    else:
        sent = send_merged(start(site, 1, 9), merge([each.data for each in sources]))
    assert run_concurrently([completion(site, sent)] * 8) == [DONE] * 8
    assert bounds(site) == [(1, 9)]
    assert_clean(site)


@pytest.mark.parametrize("attempt", range(4))
def test_either_an_aggregate_or_the_deletion_of_a_source_succeeds(site: Site, attempt: int) -> None:
    upload_some(site, 3)
    sent = send_planned(site, 1, 9)
    completed, deleted = run_concurrently(
        [completion(site, sent), lambda: dataranges.delete(site.resources, site.datas3t, 4, 6)]
    )
    if completed == DONE:
        assert deleted == v1.ERROR_REASON_DATARANGE_NOT_FOUND
        assert bounds(site) == [(1, 9)]
    else:
        assert (completed, deleted) == (CHANGED, DONE)
        assert bounds(site) == [(1, 3), (7, 9)]
    assert_clean(site)


def test_a_source_that_is_deleted_during_the_checks_fails_the_aggregate(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_some(site, 3)
    sent = send_planned(site, 1, 9)

    def delete_and_check(*arguments: object) -> object:
        dataranges.delete(site.resources, site.datas3t, 7, 9)
        site.sweep()
        return check_planned(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("datas3t.server.aggregates.lifecycle.check_planned", delete_and_check)
    with pytest.raises(Failure) as caught:
        aggregates.complete(site.resources, *sent)
    assert caught.value.reason == CHANGED
    assert_clean(site)


@pytest.mark.parametrize("attempt", range(4))
def test_an_aggregate_is_completed_or_cancelled_but_never_both(site: Site, attempt: int) -> None:
    upload_some(site, 2)
    sent = send_planned(site, 1, 6)
    completed, cancelled = run_concurrently(
        [completion(site, sent), lambda: aggregates.cancel(site.resources, sent[0])]
    )
    if completed == DONE:
        assert cancelled == v1.ERROR_REASON_AGGREGATE_COMPLETED
        assert bounds(site) == [(1, 6)]
    else:
        assert (completed, cancelled) == (v1.ERROR_REASON_AGGREGATE_CANCELLED, DONE)
        assert bounds(site) == [(1, 3), (4, 6)]
    assert_clean(site)


@pytest.mark.parametrize("attempt", range(3))
def test_a_clear_during_aggregates_and_uploads_leaves_no_object_without_a_row(site: Site, attempt: int) -> None:
    upload_some(site, 6)
    sent = [send_planned(site, 1, 9), send_planned(site, 10, 18)]
    upload = site.send(archive(30, b"content"))
    run_concurrently(
        [*(completion(site, each) for each in sent), site.clear, lambda: uploads.complete(site.resources, *upload)]
    )
    assert_clean(site)


def test_a_crash_during_the_swap_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_some(site, 2)
    sent = send_planned(site, 1, 6)
    before = rows(site)
    with monkeypatch.context() as crashing:
        crashing.setattr(keys_to_delete, "queue", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            aggregates.complete(site.resources, *sent)
    assert rows(site) == before
    aggregates.complete(site.resources, *sent)
    assert bounds(site) == [(1, 6)]
    assert_clean(site)


@pytest.mark.parametrize("planned", [True, False])
def test_a_repeated_completion_does_not_write_what_an_earlier_one_may_have_committed(
    site: Site, planned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In some stores each PUT of the same bytes has another ETag, so the row of the earlier one would be wrong."""
    sources = [archive(1, b"one", b"two"), archive(3, b"three")]
    for each in sources:
        site.upload(each, b"")
    sent = send_planned(site, 1, 3) if planned else send_merged(start(site, 1, 3), merge([s.data for s in sources]))
    with monkeypatch.context() as crashing:
        crashing.setattr(keys_to_delete, "queue", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            aggregates.complete(site.resources, *sent)
    monkeypatch.setattr(Bucket, "put", lambda *_: pytest.fail("it was written again"))
    aggregates.complete(site.resources, *sent)
    assert bounds(site) == [(1, 3)]
    assert rows(site)[0].checksums_etag is not None


def test_what_the_server_writes_replaces_what_differs(site: Site) -> None:
    bucket = datas3ts.bucket_of(site.resources, datas3ts.find(site.resources, "images"))
    for content in (b"one", b"two", b"longer"):
        etag = put_once(bucket, "key", io.BytesIO(content))
        assert (stored(site, "key"), put_once(bucket, "key", io.BytesIO(content))) == (content, etag)
    content = os.urandom(6 << 20)
    in_parts = put_index_in_parts(site, "key.tar", content)  # whose ETag is no MD5
    assert put_once(bucket, "key.index", io.BytesIO(content)) == in_parts
    assert put_once(bucket, "key.index", io.BytesIO(content[1:] + b"?")) != in_parts


def test_a_reader_during_four_overlapping_aggregations_gets_the_right_bytes(site: Site) -> None:
    sources = upload_some(site, 16)
    right = {each.first: each.data[: row.entries_size_bytes] for each, row in zip(sources, rows(site), strict=True)}
    over, read, errors = threading.Event(), [0], list[str]()

    def reader() -> None:
        while not over.is_set() or read[0] == 0:
            signed, _, _ = dataranges.presign(site.resources, site.datas3t, None, None)
            covered = [key for each in signed for key in range(each.datarange.first_key, each.datarange.last_key + 1)]
            if covered != list(range(1, 49)):
                errors.append(f"a cover of {covered}")
            got = b"".join(get(each.data_url, 0, each.datarange.entries_size_bytes) for each in signed)
            if got != b"".join(right.values()):
                errors.append("other bytes")
            read[0] += 1

    def run(span: tuple[int, int]) -> None:
        reason: int = CHANGED
        while reason == CHANGED:
            reason = run_concurrently([lambda: aggregate(site, *span)])[0]
        assert reason in (DONE, v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT)  # another aggregate was faster

    with ThreadPoolExecutor(5) as threads:
        reading = threads.submit(reader)
        spans = [(1, 24), (13, 36), (25, 48), (1, 48)]
        for done in [threads.submit(run, span) for span in spans]:
            done.result()
        over.set()
        reading.result()
    assert errors == []
    assert read[0] > 0
    assert_clean(site)
    assert sum(last - first + 1 for first, last in bounds(site)) == 48
