"""Uploads: started, sent in one PUT or in parts, resumed, completed or cancelled, and each call repeated."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server import dataranges, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.intents import UPLOADS
from datas3t.server.resources import Resources
from tests.support.faults import relay
from tests.support.uploads import Site, archive, large_archive, put, put_data

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MAX_KEY = (1 << 63) - 1
MIB = 1 << 20


def bounds(site: Site) -> list[tuple[int, int]]:
    rows, _ = dataranges.page(site.resources, site.datas3t, 0, "")
    return [(row.first_key, row.last_key) for row in rows]


def test_a_small_archive_is_uploaded_in_one_put(site: Site) -> None:
    small = archive(7, b"one", b"", b"three")
    started = site.start(small)
    assert started.data_put_url
    assert started.part_urls == []
    assert started.upload.part_size == len(small.data)
    put(started.index_put_url, small.index)
    put(started.data_put_url, small.data)
    uploads.complete(site.resources, started.upload.id, [])
    (row,) = dataranges.find_span(site.resources, "images", 0, MAX_KEY, after=-1, limit=2).rows
    assert (row.first_key, row.last_key, row.size_bytes) == (7, 9, len(small.data))
    assert row.data_object_key == f"datas3t/images/dataranges/{7:020d}-{9:020d}-{1:012d}.tar"
    assert row.entries_size_bytes == 512 * 5
    assert sorted(site.objects()) == sorted([row.data_object_key, row.index_object_key])


def test_a_large_archive_is_uploaded_in_parts(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large)
    assert started.data_put_url == ""
    assert len(started.part_urls) == 2
    put(started.index_put_url, large.index)
    uploads.complete(site.resources, started.upload.id, put_data(started, large.data))
    assert bounds(site) == [(1, 3)]
    (stored,) = [key for key in site.objects() if key.endswith(".tar")]
    assert site.s3.get_object(Bucket=site.bucket, Key=stored)["Body"].read() == large.data


def test_parts_have_20_mib_doubled_until_10000_are_enough(site: Site) -> None:
    for size, part_size, count in [
        (20 * MIB - 1, 20 * MIB - 1, 0),
        (20 * MIB, 20 * MIB, 1),
        (20 * MIB + 1, 20 * MIB, 2),
        (200_000 * MIB, 20 * MIB, 10_000),
        (200_000 * MIB + 1, 40 * MIB, 5_001),
    ]:
        started = uploads.start(site.resources, "images", 0, 1, size)
        assert (started.upload.part_size, len(started.part_urls)) == (part_size, count)
    assert len(uploads.start(site.resources, "images", 0, 1, 200_000 * MIB, all_urls=False).part_urls) == 1000


@pytest.mark.parametrize(
    ("field", "first", "count", "size"),
    [
        ("first_datapoint_index", MAX_KEY + 1, 1, 2048),
        ("first_datapoint_index", (1 << 64) - 1, 1, 2048),
        ("number_of_datapoints", 0, 0, 2048),
        ("number_of_datapoints", MAX_KEY, 2, 2048),
        ("number_of_datapoints", 1, (1 << 64) - 1, 2048),
        ("data_size", 0, 1, 0),
        ("data_size", 0, 1, (5 << 40) + 1),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_field(
    resources: Resources, field: str, first: int, count: int, size: int
) -> None:
    with pytest.raises(Failure) as caught:
        uploads.start(resources, "images", first, count, size)
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    assert caught.value.metadata == {"field": field}


def test_the_greatest_key_can_be_uploaded(site: Site) -> None:
    site.upload(archive(MAX_KEY, b"content"))
    assert bounds(site) == [(MAX_KEY, MAX_KEY)]


def test_an_unknown_or_invalid_name_is_refused(site: Site) -> None:
    for name, reason in [("nope", v1.ERROR_REASON_DATAS3T_NOT_FOUND), ("a\0b", v1.ERROR_REASON_INVALID_VALUE)]:
        with pytest.raises(Failure) as caught:
            uploads.start(site.resources, name, 1, 1, 2048)
        assert caught.value.reason == reason


def test_a_completion_can_be_repeated(site: Site) -> None:
    upload_id, etags = site.send(archive(1, b"content"))
    for _ in range(3):
        uploads.complete(site.resources, upload_id, etags)
    assert bounds(site) == [(1, 1)]


def test_a_repeated_completion_fails_with_the_same_message(site: Site) -> None:
    wrong = archive(1, b"content")
    upload_id, etags = site.send(replace(wrong, index=bytes(16)))
    messages = set()
    for _ in range(3):
        with pytest.raises(Failure) as caught:
            uploads.complete(site.resources, upload_id, etags)
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_INVALID
        messages.add((caught.value.message, tuple(caught.value.metadata.items())))
    assert len(messages) == 1


def test_an_upload_that_overlaps_fails_at_completion(site: Site) -> None:
    first, second = site.send(archive(1, b"a", b"b")), site.send(archive(2, b"c"))
    uploads.complete(site.resources, *first)
    for _ in range(2):
        with pytest.raises(Failure, match="datapoints 2 to 2 overlap a datarange of datas3t 'images'") as caught:
            uploads.complete(site.resources, *second)
        assert caught.value.reason == v1.ERROR_REASON_DATARANGE_OVERLAPS
        assert {"datas3t": "images", "first": "2", "last": "2"}.items() <= caught.value.metadata.items()
    assert site.sweep() == 2
    assert len(site.objects()) == 2


def test_an_upload_that_overlaps_a_committed_datarange_does_not_start(site: Site) -> None:
    site.upload(archive(10, b"a", b"b"))
    site.upload(archive(20, b"c"))
    for first, count in [(10, 2), (11, 1), (9, 2), (1, 100), (0, MAX_KEY)]:
        with pytest.raises(Failure) as caught:
            uploads.start(site.resources, "images", first, count, 2048)
        last = first + count - 1
        assert caught.value.reason == v1.ERROR_REASON_DATARANGE_OVERLAPS
        assert caught.value.message == (
            f"datapoints {first} to {last} overlap the datarange from 10 to 11 of datas3t 'images'; "
            "the next free key is 21"
        )
        keys = {"existing_first": "10", "existing_last": "11", "next_key": "21"}
        assert caught.value.metadata == {"datas3t": "images", "first": str(first), "last": str(last), **keys}
    for first, count in [(0, 10), (12, 8), (21, 1)]:
        uploads.start(site.resources, "images", first, count, 2048)
    with connection(site.resources.pool) as conn:
        (counter,) = conn.execute("SELECT upload_counter FROM datas3ts").fetchone() or (None,)
    assert counter == 5  # a refused start draws no value of the counter, and leaves no row


def test_the_greatest_key_has_no_next_free_key(site: Site) -> None:
    site.upload(archive(MAX_KEY, b"last"))
    with pytest.raises(Failure, match=r"; delete it first$") as caught:
        uploads.start(site.resources, "images", MAX_KEY, 1, 2048)
    assert "next_key" not in caught.value.metadata


def test_etags_are_accepted_with_and_without_quotes(site: Site) -> None:
    upload_id, (one, two) = site.send(large_archive(1))
    assert one.startswith('"')
    uploads.complete(site.resources, upload_id, [one, two.strip('"')])
    assert bounds(site) == [(1, 3)]


def test_a_part_that_was_sent_repeatedly_is_chosen_by_its_etag(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large)
    put(started.index_put_url, large.index)
    for _ in range(3):
        put(started.part_urls[0], bytes(started.upload.part_size))
    uploads.complete(site.resources, started.upload.id, put_data(started, large.data))
    assert bounds(site) == [(1, 3)]


@pytest.mark.parametrize(
    ("etags", "message"),
    [
        (["e"] * 10_001, "has 10001 ETags, but an archive has at most 10000"),
        (["e" * 1025], "has an ETag of more than 1024 characters"),
    ],
    ids=["many", "long"],
)
def test_impossible_etags_are_refused_and_the_upload_stays_pending(site: Site, etags: list[str], message: str) -> None:
    upload_id, valid = site.send(large_archive(1))
    with pytest.raises(Failure, match=f"^upload_ids {message}") as caught:
        uploads.complete(site.resources, upload_id, etags)
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    uploads.complete(site.resources, upload_id, valid)
    assert bounds(site) == [(1, 3)]


def test_an_upload_whose_multipart_upload_is_not_open_yet_can_be_completed_later(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    with connection(site.resources.pool) as conn:
        (opened,) = conn.execute("SELECT s3_upload_id FROM datarange_uploads").fetchone() or ()
        conn.execute("UPDATE datarange_uploads SET s3_upload_id = NULL")
    for call in (
        lambda: uploads.complete(site.resources, upload_id, etags),
        lambda: uploads.sign_parts(site.resources, upload_id, [1]),
    ):
        with pytest.raises(Failure, match="has not opened the multipart upload yet; nothing is lost") as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET s3_upload_id = %s", [opened])
    uploads.complete(site.resources, upload_id, etags)
    assert bounds(site) == [(1, 3)]


def test_etags_are_refused_for_an_upload_in_one_put(site: Site) -> None:
    upload_id, _ = site.send(archive(1, b"content"))
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, upload_id, ["etag"])
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    uploads.complete(site.resources, upload_id, [])


def test_an_interrupted_upload_resumes_with_the_missing_parts(site: Site) -> None:
    large = large_archive(1)
    started = site.start(large)
    put(started.index_put_url, large.index)
    size = started.upload.part_size
    put(started.part_urls[0], large.data[:size])
    signed = uploads.sign_parts(site.resources, started.upload.id, [2])
    assert [(part.number, part.size) for part in signed.uploaded] == [(1, size)]
    assert signed.expires_at >= started.upload.expires_at
    ((number, url),) = signed.part_urls
    assert number == 2
    uploads.complete(site.resources, started.upload.id, [signed.uploaded[0].etag, put(url, large.data[size:])])
    assert bounds(site) == [(1, 3)]


def test_signing_urls_again_extends_an_upload(site: Site) -> None:
    started = site.start(archive(1, b"content"))
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET expires_at = now()")
    signed = uploads.sign_parts(site.resources, started.upload.id, [])
    assert signed.expires_at > datetime.now(UTC) + timedelta(hours=23)
    assert signed.data_put_url
    assert signed.index_put_url
    site.sweep()
    UPLOADS.find_pending(site.resources, started.upload.id)


@pytest.mark.parametrize("numbers", [[0], [3], [1, 10_001], [1] * 1001])
def test_part_numbers_out_of_range_are_refused(site: Site, numbers: list[int]) -> None:
    started = site.start(large_archive(1))
    with pytest.raises(Failure) as caught:
        uploads.sign_parts(site.resources, started.upload.id, numbers)
    assert caught.value.metadata == {"field": "part_numbers"}


def test_a_cancelled_upload_leaves_no_objects(site: Site) -> None:
    small, (large, etags) = site.send(archive(1, b"content")), site.send(large_archive(5))
    for upload_id in (small[0], large):
        for _ in range(2):
            uploads.cancel(site.resources, upload_id)
    for call in (
        lambda: uploads.complete(site.resources, large, etags),
        lambda: uploads.sign_parts(site.resources, large, []),
    ):
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_CANCELLED
    site.sweep()
    assert site.objects() == []
    assert site.multiparts() == []


def test_a_complete_upload_can_be_neither_cancelled_nor_signed(site: Site) -> None:
    upload_id, etags = site.send(archive(1, b"content"))
    uploads.complete(site.resources, upload_id, etags)
    for call in (
        lambda: uploads.cancel(site.resources, upload_id),
        lambda: uploads.sign_parts(site.resources, upload_id, []),
    ):
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_COMPLETED
    site.sweep()
    assert len(site.objects()) == 2


@pytest.mark.parametrize("upload_id", [0, 12345, MAX_KEY, (1 << 64) - 1])
def test_an_unknown_id_is_not_found(resources: Resources, upload_id: int) -> None:
    for call in (
        lambda: uploads.complete(resources, upload_id, []),
        lambda: uploads.cancel(resources, upload_id),
        lambda: uploads.sign_parts(resources, upload_id, []),
    ):
        with pytest.raises(Failure, match=f"there is no upload {upload_id}") as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_NOT_FOUND


def test_a_completion_can_be_repeated_after_s3_was_unavailable(site: Site, services: "Services") -> None:
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        upload_id, etags = site.send(archive(1, b"content"))
        with between.down(), pytest.raises(Failure) as caught:
            uploads.complete(site.resources, upload_id, etags)
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
        uploads.complete(site.resources, upload_id, etags)
    assert bounds(site) == [(1, 1)]


def test_a_completion_can_be_repeated_after_s3_has_joined_the_parts(site: Site) -> None:
    upload_id, etags = site.send(large_archive(1))
    row = UPLOADS.find_pending(site.resources, upload_id)
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    site.s3.complete_multipart_upload(
        Bucket=site.bucket,
        Key=row.data_object_key,
        UploadId=row.s3_upload_id or "",
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    assert [part.number for part in uploads.sign_parts(site.resources, upload_id, []).uploaded] == [1, 2]
    uploads.complete(site.resources, upload_id, etags)
    assert bounds(site) == [(1, 3)]


def test_a_completion_succeeds_while_another_is_joining_the_parts(site: Site) -> None:
    """Test the moment when S3 has created the object and removed the parts, but not yet ended the multipart upload."""
    large = large_archive(1)
    started = site.start(large)
    put(started.index_put_url, large.index)
    site.s3.put_object(Bucket=site.bucket, Key=started.upload.data_object_key, Body=large.data)
    uploads.complete(site.resources, started.upload.id, ["0" * 32, "1" * 32])
    assert bounds(site) == [(1, 3)]


def test_an_upload_is_cancelled_if_s3_opens_no_multipart_upload(site: Site, services: "Services") -> None:
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        with between.down(), pytest.raises(Failure) as caught:
            site.start(large_archive(1))
    assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        assert conn.execute("SELECT state FROM datarange_uploads").fetchall() == [("cancelled",)]
