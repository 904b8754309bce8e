"""Planned aggregates: S3 and the client make the parts, and one datarange takes the place of its sources."""

import io
import tarfile
from datetime import UTC, datetime, timedelta

import pytest

from datas3t import v1
from datas3t.archive import tar
from datas3t.server import aggregates, dataranges
from datas3t.server.aggregates import part_plan
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.intents import AGGREGATES
from tests.support import tars
from tests.support.aggregates import (
    aggregate,
    bounds,
    make_part,
    part_bytes,
    rows,
    send_planned,
    start,
    stored,
    upload_some,
)
from tests.support.faults import Fault, relay
from tests.support.uploads import Archive, Site, archive, get, large_archive, put

MIB = 1 << 20


def assert_fails(reason: "v1.ErrorReason.ValueType", call: object) -> Failure:
    with pytest.raises(Failure) as caught:
        call()  # type: ignore[operator]
    assert caught.value.reason == reason
    return caught.value


def scan(data: bytes) -> tar.Contents:
    return tar.scan(lambda start, stop: data[start:stop], len(data))


def make_all_due(site: Site) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")


def test_small_archives_are_joined_byte_for_byte(site: Site) -> None:
    sources = upload_some(site, 5)
    aggregate(site, 1, 15)
    (row,) = rows(site)
    assert (row.first_key, row.last_key) == (1, 15)
    joined = b"".join(each.data[: scan(each.data).entries_end] for each in sources)
    assert stored(site, row.data_object_key) == joined + bytes(1024)
    assert (row.size_bytes, row.entries_size_bytes) == (len(joined) + 1024, len(joined))
    assert stored(site, row.index_object_key) == scan(joined + bytes(1024)).index


def test_s3_copies_all_but_the_end_marker_of_large_archives(site: Site) -> None:
    sources = [archive(n, bytes([n]) * (6 * MIB)) for n in range(1, 5)]
    for each in sources:
        site.upload(each)
    started = start(site, 1, 4, planned=True)
    parts = aggregates.sign_parts(site.resources, started.aggregate.id, range(1, started.part_count + 1)).parts
    assert [part.copy is not None for part in parts] == [True] * 4 + [False]
    assert (parts[-1].size, parts[-1].zeros) == (1024, 1024)
    aggregates.complete(site.resources, started.aggregate.id, [make_part(site, part) for part in parts])
    (row,) = rows(site)
    with tarfile.open(fileobj=io.BytesIO(stored(site, row.data_object_key))) as joined:
        assert [member.size for member in joined] == [6 * MIB] * 4


def test_tar_reads_an_aggregate_of_mixed_dialects_and_paddings(site: Site) -> None:
    contents = [b"%d" % n * 700 for n in range(1, 9)]
    for n, dialect in enumerate(["ustar", "gnu", "pax", "ustar"]):
        data = tars.archive(2 * n + 1, contents[2 * n : 2 * n + 2], dialect=dialect)
        padded = data + bytes(10_240 * n)
        site.upload(Archive(2 * n + 1, 2, padded, scan(padded).index))
    aggregate(site, 1, 8)
    (row,) = rows(site)
    with tarfile.open(fileobj=io.BytesIO(stored(site, row.data_object_key))) as joined:
        read = [(member.name, joined.extractfile(member).read()) for member in joined]  # type: ignore[union-attr]
    assert read == [(f"{key:020d}.bin", content) for key, content in enumerate(contents, 1)]


def test_signed_urls_work_until_they_expire_and_then_the_replaced_objects_are_deleted(site: Site) -> None:
    first, _ = upload_some(site, 2)
    signed, _, _ = dataranges.presign(site.resources, site.datas3t, 1, 6)
    old = [row for each in rows(site) for row in (each.data_object_key, each.index_object_key)]
    aggregate(site, 1, 6)
    assert site.sweep() == 0
    assert get(signed[0].data_url, 0, len(first.data)) == first.data
    with connection(site.resources.pool) as conn:
        (due,) = {row[0] for row in conn.execute("SELECT due_at FROM keys_to_delete")}
    assert due >= datetime.now(UTC) + site.resources.url_lifetime
    make_all_due(site)
    assert site.sweep() == len(old) + 2  # and the checksums that there might be
    assert set(site.objects()).isdisjoint(old)
    assert len(site.objects()) == 2


def test_a_repeated_completion_succeeds_and_changes_nothing(site: Site) -> None:
    upload_some(site, 2)
    aggregate_id, etags = send_planned(site, 1, 6)
    aggregates.complete(site.resources, aggregate_id, etags)
    before = rows(site)
    aggregates.complete(site.resources, aggregate_id, etags)
    aggregates.complete(site.resources, aggregate_id, [])
    assert rows(site) == before
    cancel = assert_fails(v1.ERROR_REASON_AGGREGATE_COMPLETED, lambda: aggregates.cancel(site.resources, aggregate_id))
    assert cancel.metadata["aggregate_id"] == str(aggregate_id)
    assert_fails(v1.ERROR_REASON_AGGREGATE_COMPLETED, lambda: aggregates.sign_parts(site.resources, aggregate_id, []))


def test_aggregates_can_be_aggregated(site: Site) -> None:
    upload_some(site, 6)
    aggregate(site, 1, 9)
    aggregate(site, 10, 18)
    aggregate(site, 1, 18)
    assert bounds(site) == [(1, 18)]
    make_all_due(site)
    site.sweep()
    assert len(site.objects()) == 2


def test_a_cancelled_aggregate_leaves_its_sources_and_nothing_else(site: Site) -> None:
    upload_some(site, 2)
    aggregate_id, etags = send_planned(site, 1, 6)
    aggregates.cancel(site.resources, aggregate_id)
    aggregates.cancel(site.resources, aggregate_id)
    site.sweep()
    assert site.multiparts() == []
    assert len(site.objects()) == 4
    assert bounds(site) == [(1, 3), (4, 6)]
    assert_fails(v1.ERROR_REASON_AGGREGATE_CANCELLED, lambda: aggregates.complete(site.resources, aggregate_id, etags))


def test_an_abandoned_aggregate_is_cancelled_when_its_urls_expire(site: Site) -> None:
    upload_some(site, 2)
    aggregate_id, _ = send_planned(site, 1, 6)
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE aggregate_uploads SET expires_at = now() - interval '1 second'")
    site.sweep()
    assert (site.multiparts(), len(site.objects())) == ([], 4)
    assert_fails(v1.ERROR_REASON_AGGREGATE_CANCELLED, lambda: aggregates.sign_parts(site.resources, aggregate_id, [1]))


def test_signing_returns_the_uploaded_parts_and_extends_the_aggregate(site: Site) -> None:
    for n in range(1, 4):
        site.upload(archive(n, bytes([n]) * (6 * MIB)))
    started = start(site, 1, 3, planned=True)
    first = aggregates.sign_parts(site.resources, started.aggregate.id, [1])
    assert first.uploaded == []
    etag = make_part(site, first.parts[0])
    longer = site.with_resources(url_lifetime=timedelta(days=3))
    second = aggregates.sign_parts(longer.resources, started.aggregate.id, [2, 3])
    assert [(part.number, part.etag) for part in second.uploaded] == [(1, etag)]
    assert [part.number for part in second.parts] == [2, 3]
    assert second.part_count == 4
    extended = AGGREGATES.find(site.resources, started.aggregate.id)
    assert extended.expires_at > started.aggregate.expires_at + timedelta(days=1)
    assert second.index_put_url == second.data_put_url == ""


def test_all_parts_count_as_uploaded_after_s3_has_joined_them(site: Site) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6, planned=True)
    (part,) = aggregates.sign_parts(site.resources, started.aggregate.id, [1]).parts
    etag = put(part.url, part_bytes(site, part))
    key, s3_upload_id = started.aggregate.data_object_key, started.aggregate.s3_upload_id
    assert s3_upload_id
    done = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    site.s3.complete_multipart_upload(
        Bucket=site.bucket,
        Key=key,
        UploadId=s3_upload_id,
        MultipartUpload=done,  # type: ignore[arg-type]
    )
    signed = aggregates.sign_parts(site.resources, started.aggregate.id, [])
    assert [(each.number, each.size) for each in signed.uploaded] == [(1, part.size)]
    aggregates.complete(site.resources, started.aggregate.id, [each.etag for each in signed.uploaded])
    assert bounds(site) == [(1, 6)]


def test_a_response_holds_as_many_parts_as_fit_and_at_least_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(1, 5):
        site.upload(archive(n, bytes([n]) * (5 * MIB)))
    started = start(site, 1, 4, planned=True)
    for limit, count in [(0, 1), (4_500, 2), (1 << 20, 5)]:
        monkeypatch.setattr(part_plan, "MAX_RESPONSE", limit)
        parts = aggregates.sign_parts(site.resources, started.aggregate.id, [1, 2, 3, 4, 5]).parts
        assert [part.number for part in parts] == list(range(1, count + 1))


@pytest.mark.parametrize("numbers", [[0], [3], list(range(1, 1002))])
def test_part_numbers_out_of_range_are_refused(site: Site, numbers: list[int]) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6, planned=True)
    failure = assert_fails(
        v1.ERROR_REASON_INVALID_VALUE, lambda: aggregates.sign_parts(site.resources, started.aggregate.id, numbers)
    )
    assert failure.metadata["field"] == "part_numbers"


def test_wrong_bytes_at_a_seam_fail_the_aggregate_and_the_sources_stay(site: Site) -> None:
    upload_some(site, 3)
    started = start(site, 1, 9, planned=True)
    (part,) = aggregates.sign_parts(site.resources, started.aggregate.id, [1]).parts
    data = bytearray(part_bytes(site, part))
    seam = rows(site)[0].entries_size_bytes
    data[seam : seam + 20] = b"%020d" % 99
    etag = put(part.url, bytes(data))
    for _ in range(2):
        failure = assert_fails(
            v1.ERROR_REASON_AGGREGATE_INVALID,
            lambda: aggregates.complete(site.resources, started.aggregate.id, [etag]),
        )
        assert "checksum" in failure.message
    assert bounds(site) == [(1, 3), (4, 6), (7, 9)]
    site.sweep()
    assert len(site.objects()) == 6


def test_a_missing_end_marker_fails_the_aggregate(site: Site) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6, planned=True)
    (part,) = aggregates.sign_parts(site.resources, started.aggregate.id, [1]).parts
    etag = put(part.url, part_bytes(site, part)[:-1] + b"x")
    failure = assert_fails(
        v1.ERROR_REASON_AGGREGATE_INVALID, lambda: aggregates.complete(site.resources, started.aggregate.id, [etag])
    )
    assert "end marker" in failure.message


@pytest.mark.parametrize("wrong", ["too few", "short"])
def test_parts_other_than_planned_fail_the_aggregate(site: Site, wrong: str) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6, planned=True)
    (part,) = aggregates.sign_parts(site.resources, started.aggregate.id, [1]).parts
    etag = put(part.url, part_bytes(site, part)[: -512 if wrong == "short" else None])
    etags = [etag] if wrong == "short" else []
    assert_fails(
        v1.ERROR_REASON_AGGREGATE_INVALID, lambda: aggregates.complete(site.resources, started.aggregate.id, etags)
    )


def test_a_source_that_was_deleted_since_fails_the_aggregate(site: Site) -> None:
    upload_some(site, 3)
    aggregate_id, etags = send_planned(site, 1, 9)
    dataranges.delete(site.resources, site.datas3t, 4, 6)
    for _ in range(2):
        assert_fails(
            v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED,
            lambda: aggregates.complete(site.resources, aggregate_id, etags),
        )
    site.sweep()
    assert bounds(site) == [(1, 3), (7, 9)]
    assert (len(site.objects()), site.multiparts()) == (4, [])


def test_signing_fails_an_aggregate_whose_sources_changed(site: Site) -> None:
    upload_some(site, 3)
    started = start(site, 1, 9, planned=True)
    dataranges.delete(site.resources, site.datas3t, 4, 6)
    site.upload(archive(4, b"", b"", b""))  # the same keys, but another datarange
    for _ in range(2):
        assert_fails(
            v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED,
            lambda: aggregates.sign_parts(site.resources, started.aggregate.id, [1]),
        )
    site.sweep()
    assert site.multiparts() == []


def test_a_completion_can_be_repeated_after_an_overwritten_index_was_restored(site: Site) -> None:
    first, _ = upload_some(site, 2)
    aggregate_id, etags = send_planned(site, 1, 6)
    key = rows(site)[0].index_object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"\0" * 48)
    failure = assert_fails(
        v1.ERROR_REASON_OBJECT_CHANGED, lambda: aggregates.complete(site.resources, aggregate_id, etags)
    )
    assert failure.metadata["object_key"] == key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=first.index)
    aggregates.complete(site.resources, aggregate_id, etags)
    assert bounds(site) == [(1, 6)]


def test_a_completion_can_be_repeated_after_s3_was_unavailable(site: Site) -> None:
    upload_some(site, 2)
    endpoint = site.s3.meta.endpoint_url
    aggregate_id, etags = send_planned(site, 1, 6)
    with relay(endpoint) as between:
        site.set_endpoint(between.url)
        for only in (b"", b"POST ", b"HEAD ", b".index"):
            between.always = Fault(status=503, only=only)
            assert_fails(
                v1.ERROR_REASON_S3_UNAVAILABLE, lambda: aggregates.complete(site.resources, aggregate_id, etags)
            )
        between.always = Fault()
        aggregates.complete(site.resources, aggregate_id, etags)
    assert bounds(site) == [(1, 6)]


def test_an_aggregate_is_cancelled_if_s3_is_unavailable_at_the_start(site: Site) -> None:
    upload_some(site, 2)
    endpoint = site.s3.meta.endpoint_url
    with relay(endpoint) as between:
        site.set_endpoint(between.url)
        between.always = Fault(status=503)
        assert_fails(v1.ERROR_REASON_S3_UNAVAILABLE, lambda: start(site, 1, 6, planned=True))
    site.set_endpoint(endpoint)
    with connection(site.resources.pool) as conn:
        assert conn.execute("SELECT state FROM aggregate_uploads").fetchall() == [("cancelled",)]


@pytest.mark.parametrize("aggregate_id", [0, 1, (1 << 63) - 1, (1 << 64) - 1])
def test_an_unknown_id_is_not_found(site: Site, aggregate_id: int) -> None:
    for call in (
        lambda: aggregates.complete(site.resources, aggregate_id, []),
        lambda: aggregates.cancel(site.resources, aggregate_id),
        lambda: aggregates.sign_parts(site.resources, aggregate_id, []),
    ):
        assert_fails(v1.ERROR_REASON_AGGREGATE_NOT_FOUND, call)


def test_archives_that_were_uploaded_in_parts_can_be_aggregated(site: Site) -> None:
    sources = [large_archive(1), *[archive(n, b"small") for n in range(4, 7)], large_archive(7)]
    for each in sources:
        site.upload(each)
    aggregate(site, 1, 9)
    (row,) = rows(site)
    joined = b"".join(each.data[: scan(each.data).entries_end] for each in sources) + bytes(1024)
    assert stored(site, row.data_object_key) == joined


@pytest.mark.parametrize("etags", [["e"] * 10_001, ["e" * 1025]], ids=["many", "long"])
def test_impossible_etags_are_refused_and_the_aggregate_stays_pending(site: Site, etags: list[str]) -> None:
    upload_some(site, 2)
    aggregate_id, valid = send_planned(site, 1, 6)
    failure = assert_fails(
        v1.ERROR_REASON_INVALID_VALUE, lambda: aggregates.complete(site.resources, aggregate_id, etags)
    )
    assert failure.metadata == {"field": "upload_ids"}
    aggregates.complete(site.resources, aggregate_id, valid)
    assert bounds(site) == [(1, 6)]


def test_an_aggregate_whose_multipart_upload_is_not_open_yet_can_be_retried_or_cancelled(site: Site) -> None:
    upload_some(site, 2)
    started = start(site, 1, 6, planned=True)
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE aggregate_uploads SET s3_upload_id = NULL")
    for call in (
        lambda: aggregates.sign_parts(site.resources, started.aggregate.id, [1]),
        lambda: aggregates.complete(site.resources, started.aggregate.id, ["etag"]),
    ):
        assert_fails(v1.ERROR_REASON_S3_UNAVAILABLE, call)
    aggregates.cancel(site.resources, started.aggregate.id)
    site.sweep()
    assert (site.multiparts(), len(site.objects())) == ([], 4)


def test_an_overwritten_archive_is_not_aggregated(site: Site) -> None:
    first, _ = upload_some(site, 2)
    aggregate_id, etags = send_planned(site, 1, 6)
    key = rows(site)[0].data_object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=first.data[:-1] + b"x")
    failure = assert_fails(
        v1.ERROR_REASON_OBJECT_CHANGED, lambda: aggregates.complete(site.resources, aggregate_id, etags)
    )
    assert failure.metadata["object_key"] == key
    assert bounds(site) == [(1, 3), (4, 6)]
