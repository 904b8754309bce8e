"""Downloads and listings: exactly the bytes of the entries in a span, and pages that leave out no key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datas3t import v1
from datas3t.archive.index import Entry
from datas3t.server import dataranges, downloads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.front.rpc.datarange import DatarangeServicer
from datas3t.server.objects.index_cache import IndexCache
from tests.support.uploads import Archive, Site, archive, get

MAX_KEY = (1 << 63) - 1
A = archive(10, b"ten", b"e" * 600, b"", b"thirteen")
B = archive(14, b"fourteen", b"fifteen")
C = archive(100, b"hundred")


@pytest.fixture
def filled(site: Site) -> Site:
    """Return a site with the dataranges A, B and C."""
    for each in (C, A, B):
        site.upload(each)
    return site


def entries(archive: Archive, first: int, last: int) -> bytes:
    """Return the bytes of some entries of an archive, responses with its index."""
    positions = [int.from_bytes(archive.index[i : i + 8], "big") for i in range(0, len(archive.index), 16)]
    end = archive.data.rindex(b"\0" * 1024, 0, len(archive.data))
    last_size = int.from_bytes(archive.index[-6:], "big")
    positions.append(positions[-1] + 512 + -(-last_size // 512) * 512)
    assert positions[-1] <= end + 1024
    return archive.data[positions[first - archive.first] : positions[last - archive.first + 1]]


def download(site: Site, first: int, last: int, size: int = 0) -> list[bytes]:
    """Download the segments of a span, of all pages."""
    contents, token = [], ""
    while True:
        segments, token, _ = downloads.presign(site.resources, site.datas3t, first, last, size=size, token=token)
        contents += [get(segment.url, segment.start, segment.stop) for segment in segments]
        if not token:
            return contents


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (10, 13, [entries(A, 10, 13)]),
        (11, 12, [entries(A, 11, 12)]),
        (13, 13, [entries(A, 13, 13)]),
        (12, 14, [entries(A, 12, 13), entries(B, 14, 14)]),
        (0, MAX_KEY, [entries(A, 10, 13), entries(B, 14, 15), entries(C, 100, 100)]),
        (15, 5000, [entries(B, 15, 15), entries(C, 100, 100)]),
    ],
)
def test_a_span_is_downloaded_as_the_bytes_of_its_entries(
    filled: Site, first: int, last: int, expected: list[bytes], size: int
) -> None:
    assert download(filled, first, last, size) == expected


def test_an_index_is_fetched_once(filled: Site) -> None:
    before = download(filled, 11, 12)
    for key in filled.objects():
        if key.endswith(".index"):
            filled.s3.delete_object(Bucket=filled.bucket, Key=key)
    assert download(filled, 11, 12) == before
    with pytest.raises(Failure) as caught:
        download(filled, 14, 14)
    assert caught.value.reason == v1.ERROR_REASON_OBJECT_CHANGED


def test_an_index_that_was_overwritten_is_an_error(filled: Site) -> None:
    (row,), _, _ = dataranges.presign(filled.resources, "images", 10, 13)
    filled.s3.put_object(Bucket=filled.bucket, Key=row.datarange.index_object_key, Body=bytes(64))
    with pytest.raises(Failure) as caught:
        download(filled, 11, 12)
    assert caught.value.reason == v1.ERROR_REASON_OBJECT_CHANGED
    assert caught.value.metadata == {"object_key": row.datarange.index_object_key}
    assert caught.value.message.endswith("; restore it, or delete its datarange and upload it again")


class HookedIndexCache(IndexCache):
    """An index cache that calls a function before its first read."""

    def __init__(self, folder: Path, before_first_read: Callable[[], None]) -> None:
        super().__init__(folder, 1 << 20)
        self._hooks = [before_first_read]

    def entry(self, *args: Any, **kwargs: Any) -> Entry:
        while self._hooks:
            self._hooks.pop()()
        return super().entry(*args, **kwargs)


def remove(site: Site, first: int, last: int) -> None:
    dataranges.delete(site.resources, "images", first, last)
    assert site.sweep() == 3


def test_a_datarange_that_is_deleted_during_a_call_is_not_found(filled: Site, tmp_path: Path) -> None:
    hooked = filled.with_resources(index_cache=HookedIndexCache(tmp_path, lambda: remove(filled, 10, 13)))
    with pytest.raises(Failure) as caught:
        download(hooked, 11, 12)
    assert caught.value.reason == v1.ERROR_REASON_DATAPOINTS_NOT_FOUND


def test_the_rest_of_a_span_is_returned_if_a_datarange_is_deleted_during_the_call(filled: Site, tmp_path: Path) -> None:
    hooked = filled.with_resources(index_cache=HookedIndexCache(tmp_path, lambda: remove(filled, 10, 13)))
    assert download(hooked, 11, 100) == [entries(B, 14, 15), entries(C, 100, 100)]


def test_a_datarange_that_replaces_another_during_a_call_is_returned(filled: Site, tmp_path: Path) -> None:
    new = archive(10, b"new", b"newer", b"newest", b"last")

    def replace() -> None:
        remove(filled, 10, 13)
        filled.upload(new)

    hooked = filled.with_resources(index_cache=HookedIndexCache(tmp_path, replace))
    assert download(hooked, 11, 12) == [entries(new, 11, 12)]


def test_a_datas3t_that_is_cleared_during_a_call_has_no_segments(site: Site, tmp_path: Path) -> None:
    site.upload(A)
    assert (
        download(site.with_resources(index_cache=HookedIndexCache(tmp_path, lambda: remove(site, 10, 13))), 11, 12)
        == []
    )


def test_a_span_without_datapoints_is_not_found(filled: Site) -> None:
    for first, last in [(0, 9), (16, 99), (101, MAX_KEY)]:
        with pytest.raises(Failure, match=f"has no datapoint from {first} to {last}") as caught:
            download(filled, first, last)
        assert caught.value.reason == v1.ERROR_REASON_DATAPOINTS_NOT_FOUND


def test_an_empty_datas3t_has_no_segments(site: Site) -> None:
    assert download(site, 0, MAX_KEY) == []


def test_the_greatest_key_can_be_downloaded(site: Site) -> None:
    top = archive(MAX_KEY - 1, b"last but one", b"last")
    site.upload(top)
    assert download(site, MAX_KEY, MAX_KEY) == [entries(top, MAX_KEY, MAX_KEY)]


@pytest.mark.parametrize(
    ("first", "last", "size", "token", "field"),
    [
        (2, 1, 0, "", "last_datapoint"),
        (MAX_KEY + 1, MAX_KEY + 1, 0, "", "first_datapoint"),
        (0, MAX_KEY + 1, 0, "", "last_datapoint"),
        (0, 1, 2001, "", "page_size"),
        (0, 1, 0, "x", "page_token"),
        (0, 1, 0, "9" * 19, "page_token"),
        (0, 1, 0, "1.", "page_token"),
        (0, 1, 0, "1.2.3", "page_token"),
        (0, 1, 0, "1.\u0662", "page_token"),
        (0, 1, 0, "1.2\n", "page_token"),
    ],
)
def test_an_invalid_request_is_an_error_that_names_its_field(
    filled: Site, *, first: int, last: int, size: int, token: str, field: str
) -> None:
    for call in (downloads.presign, dataranges.presign):
        with pytest.raises(Failure) as caught:
            call(filled.resources, "images", first, last, size=size, token=token)
        assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
        assert caught.value.metadata == {"field": field}


def test_all_dataranges_have_urls_in_key_order(filled: Site) -> None:
    signed, token, expires_at = dataranges.presign(filled.resources, "images", None, None)
    assert [each.datarange.first_key for each in signed] == [10, 14, 100]
    assert token == ""
    assert timedelta(hours=23) < expires_at - datetime.now(UTC) <= timedelta(hours=24)
    for each, expected in zip(signed, (A, B, C), strict=True):
        assert get(each.data_url, 0, each.datarange.size_bytes) == expected.data
        assert get(each.index_url, 0, len(expected.index)) == expected.index
        assert expected.data[each.datarange.entries_size_bytes :].strip(b"\0") == b""


@pytest.mark.parametrize(("first", "last", "expected"), [(13, 14, [10, 14]), (None, 9, []), (16, None, [100])])
def test_only_the_dataranges_of_a_span_are_returned(
    filled: Site, first: int | None, last: int | None, expected: list[int]
) -> None:
    signed, _, _ = dataranges.presign(filled.resources, "images", first, last)
    assert [each.datarange.first_key for each in signed] == expected


@pytest.mark.parametrize("access_key", ["k" * 1024, "%" * 1024], ids=["long", "quoted"])
def test_a_page_fits_a_message_however_long_its_urls_are(site: Site, access_key: str) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE s3_buckets SET access_key = %s", [site.resources.cipher.encrypt(access_key)])
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                                       size_bytes, entries_size_bytes, data_etag, index_etag)
               SELECT catalogue_id, n, n, 'data' || n, 'index' || n, 2048, 1024, repeat('e', 40), repeat('e', 40)
                 FROM datas3ts, generate_series(0, 1999) AS n"""
        )
    servicer = DatarangeServicer(site.resources)
    responses = pages(servicer.PresignDataranges, v1.PresignDatarangesRequest(datas3t_name="images", page_size=2000))
    assert [each.min_datapoint_key for page in responses for each in page.dataranges] == list(range(2000))
    segments = pages(servicer.PresignDownload, v1.PresignDownloadRequest(datas3t_name="images", last_datapoint=1999))
    keys = [
        each.presigned_url.partition("/data")[2].partition("?")[0] for p in segments for each in p.download_segments
    ]
    assert keys == [str(n) for n in range(2000)]
    assert all(1 << 20 < page.ByteSize() < 4 << 20 for page in [*responses[:-1], *segments[:-1]])


def pages(call: Callable[[Any, None], Any], request: Any) -> list[Any]:
    """Return the responses with all pages of a listing."""
    responses = [call(request, None)]
    while token := responses[-1].next_page_token:
        request.page_token = token
        responses.append(call(request, None))
    return responses


@pytest.mark.parametrize("then", ["stays empty", "is filled again"])
def test_a_clear_between_two_pages_is_an_error(filled: Site, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    monkeypatch.setattr(dataranges, "_JSON_ROWS", 1)
    resources = filled.resources
    pages_at: list[Callable[[str], str]] = [
        lambda token: dataranges.page(resources, "images", 1, token)[1],
        lambda token: dataranges.json_page(resources, "images", token).next_token,
        lambda token: dataranges.presign(resources, "images", None, None, size=1, token=token)[1],
        lambda token: dataranges.presign_columns(resources, "images", None, None, size=1, token=token).next_token,
        lambda token: downloads.presign(resources, "images", 11, 100, size=1, token=token)[1],
    ]
    tokens = [page_at("") for page_at in pages_at]
    assert all(page_at(token) for page_at, token in zip(pages_at, tokens, strict=True))
    filled.clear()
    if then == "is filled again":
        for each in (A, B, C):
            filled.upload(each)
    for page_at, token in zip(pages_at, tokens, strict=True):
        with pytest.raises(Failure, match="'images' was cleared while its dataranges were listed") as caught:
            page_at(token)
        assert caught.value.reason == v1.ERROR_REASON_LISTING_CHANGED
        assert caught.value.metadata == {"datas3t": "images"}


def test_a_token_of_an_earlier_server_has_the_key_alone(filled: Site) -> None:
    listed, token = dataranges.page(filled.resources, "images", 1, "13")
    assert [each.first_key for each in listed] == [14]
    assert token.endswith(".15")


def test_a_merge_between_two_pages_leaves_out_no_key(filled: Site) -> None:
    page, token, _ = dataranges.presign(filled.resources, "images", None, None, size=1)
    assert [each.datarange.last_key for each in page] == [13]
    with connection(filled.resources.pool) as conn:
        conn.execute("DELETE FROM dataranges WHERE first_key = 10")
        conn.execute("UPDATE dataranges SET first_key = 10 WHERE first_key = 14")
    page, token, _ = dataranges.presign(filled.resources, "images", None, None, size=1, token=token)
    assert [(each.datarange.first_key, each.datarange.last_key) for each in page] == [(10, 15)]
    listed, _ = dataranges.page(filled.resources, "images", 0, token)
    assert [row.first_key for row in listed] == [100]


def test_a_datarange_is_deleted_only_by_exactly_its_keys(filled: Site) -> None:
    for first, last in [(10, 12), (11, 13), (10, 14), (0, 0)]:
        with pytest.raises(Failure) as caught:
            dataranges.delete(filled.resources, "images", first, last)
        assert caught.value.reason == v1.ERROR_REASON_DATARANGE_NOT_FOUND
        assert caught.value.metadata == {"datas3t": "images", "first": str(first), "last": str(last)}
    dataranges.delete(filled.resources, "images", 10, 13)
    assert filled.sweep() == 3
    assert len(filled.objects()) == 4
    assert [row.first_key for row in dataranges.page(filled.resources, "images", 0, "")[0]] == [14, 100]
    filled.upload(A)
