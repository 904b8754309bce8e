"""PresignDataranges in columns: the same dataranges and URLs as in rows, in few bytes, whatever the object keys are."""

from datetime import UTC, datetime
from unittest import mock

import pytest
from google.protobuf.message import Message

from datas3t import v1
from datas3t.server.db.pool import connection
from datas3t.server.front.rpc.datarange import DatarangeServicer
from tests.support.uploads import Site, archive, get

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
ARCHIVES = [archive(10, b"ten", b"eleven"), archive(12, b"twelve"), archive(100, b"hundred"), archive(200, b"x" * 600)]


@pytest.fixture
def filled(site: Site) -> Site:
    for number, each in enumerate(ARCHIVES):  # with checksums, an extension, both and neither
        site.upload(each, b"" if number in (0, 2) else None, extension="bin" if number in (1, 2) else "")
    return site


def presigned(site: Site, **fields: object) -> list[v1.PresignDatarangesResponse]:
    """Return all pages, signed at the time NOW."""
    request = v1.PresignDatarangesRequest(datas3t_name="images", **fields)  # type: ignore[arg-type]
    servicer, responses = DatarangeServicer(site.resources), list[v1.PresignDatarangesResponse]()
    with mock.patch("datas3t.server.s3.presign.datetime", mock.Mock(now=mock.Mock(return_value=NOW))):
        while True:
            responses.append(servicer.PresignDataranges(request, None))
            if not responses[-1].next_page_token:
                return responses
            request.page_token = responses[-1].next_page_token


def rows_of(response: v1.PresignDatarangesResponse) -> list[Message]:
    """Return the dataranges of a page as rows, as proto/datas3t/v1/datarange.proto says how to make them."""
    columns, rows = response.columns, list[Message](response.dataranges)
    no_texts = [""] * len(columns.first_keys)
    checksums_etags, extensions = columns.checksums_etags or no_texts, columns.extensions or no_texts
    for n, (first, counter) in enumerate(zip(columns.first_keys, columns.counters, strict=True)):
        last = first + columns.datapoints[n] - 1
        name = f"{columns.url_prefix}{first:020d}-{last:020d}-{counter:012d}"
        query = f"?{columns.url_query}&X-Amz-Signature="
        data, index = columns.signatures[64 * n : 64 * n + 32], columns.signatures[64 * n + 32 : 64 * n + 64]
        checksums = columns.checksums_signatures[32 * n : 32 * n + 32].hex()
        rows.append(
            v1.PresignedDatarange(
                datarange_id=columns.datarange_ids[n],
                min_datapoint_key=first,
                max_datapoint_key=last,
                size_bytes=columns.size_bytes[n],
                entries_size_bytes=columns.entries_size_bytes[n],
                data_etag=columns.data_etags[n],
                index_etag=columns.index_etags[n],
                presigned_data_url=f"{name}.tar{query}{data.hex()}",
                presigned_index_url=f"{name}.index{query}{index.hex()}",
                presigned_checksums_url=f"{name}.crc32c{query}{checksums}" if checksums_etags[n] else "",
                checksums_etag=checksums_etags[n],
                extension=extensions[n],
            )
        )
    return sorted(rows, key=lambda row: row.min_datapoint_key)  # type: ignore[attr-defined]


def test_columns_and_rows_are_the_same_dataranges_with_the_same_urls(filled: Site) -> None:
    (in_rows,), (in_columns,) = presigned(filled), presigned(filled, columns=True)
    assert len(in_rows.dataranges) == len(ARCHIVES)
    assert not in_rows.HasField("columns")
    assert not in_columns.dataranges
    assert rows_of(in_columns) == list(in_rows.dataranges)


def test_columns_that_no_datarange_has_a_value_for_are_empty(site: Site) -> None:
    site.upload(ARCHIVES[0])
    ((only,),) = (presigned(site, columns=True),)
    columns = only.columns
    assert (list(columns.checksums_etags), columns.checksums_signatures, list(columns.extensions)) == ([], b"", [])
    site.upload(ARCHIVES[1], b"")
    ((both,),) = (presigned(site, columns=True),)
    assert both.columns.checksums_signatures.startswith(bytes(32))
    assert len(both.columns.checksums_signatures) == 64
    assert not both.columns.extensions


def test_s3_accepts_the_urls_of_columns(filled: Site) -> None:
    request = v1.PresignDatarangesRequest(datas3t_name="images", columns=True)
    rows = rows_of(DatarangeServicer(filled.resources).PresignDataranges(request, None))
    for row, expected in zip(rows, ARCHIVES, strict=True):
        assert get(row.presigned_data_url, 0, len(expected.data)) == expected.data  # type: ignore[attr-defined]
        assert get(row.presigned_index_url, 0, len(expected.index)) == expected.index  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 2, 0])
@pytest.mark.parametrize(
    "change",
    [
        "data_object_key = 'elsewhere/' || data_object_key",
        "data_object_key = replace(data_object_key, '-0', '-')",
        "data_object_key = replace(data_object_key, '.tar', '.TAR')",
        "index_object_key = index_object_key || '2'",
        "data_object_key = replace(data_object_key, 'dataranges/', 'dataranges/a b+\u00fc')",
    ],
)
@pytest.mark.parametrize("changed", [[10], [12, 200], [10, 12, 100, 200]])
def test_dataranges_with_other_object_keys_are_rows(filled: Site, change: str, changed: list[int], size: int) -> None:
    with connection(filled.resources.pool) as conn:
        conn.execute(f"UPDATE dataranges SET {change} WHERE first_key = ANY(%s)", [changed])
    in_rows = [row for page in presigned(filled, page_size=size) for row in page.dataranges]
    pages = presigned(filled, page_size=size, columns=True)
    assert [row for page in pages for row in rows_of(page)] == in_rows
    assert len(pages) == (len(ARCHIVES) // size if size else 1)


@pytest.mark.parametrize(("etag", "most"), [("0123456789abcdef" * 2, 200), ("0123456789abcdef" * 2 + "-1234", 200)])
def test_a_datarange_in_columns_has_at_most_200_bytes(site: Site, etag: str, most: int) -> None:
    _insert_many(site, etag)
    (page,) = presigned(site, columns=True, page_size=2000)
    assert len(page.columns.first_keys) == 2000
    assert page.ByteSize() < 2000 * most


def test_a_page_of_columns_fits_a_message_however_long_its_etags_are(site: Site) -> None:
    _insert_many(site, "e" * 1024)
    pages = presigned(site, columns=True, page_size=2000)
    assert [key for page in pages for key in page.columns.first_keys] == [n * 1_000_000 for n in range(2000)]
    assert all(page.ByteSize() < 4 << 20 for page in pages)


def _insert_many(site: Site, etag: str) -> None:
    """Insert 2,000 dataranges of a million keys and 1 GiB."""
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                                       size_bytes, entries_size_bytes, data_etag, index_etag)
               SELECT catalogue_id, n * 1000000::bigint, n * 1000000::bigint + 999999,
                      start || '.tar', start || '.index', 1 << 30, (1 << 30) - 1024, %(etag)s, %(etag)s
                 FROM datas3ts, generate_series(0, 1999) AS n,
                      LATERAL (SELECT 'datas3t/images/dataranges/' || lpad((n * 1000000::bigint)::text, 20, '0') || '-'
                               || lpad((n * 1000000::bigint + 999999)::text, 20, '0') || '-'
                               || lpad((n + 1)::text, 12, '0') AS start) AS named""",
            {"etag": etag},
        )
