"""Aggregates keep checksums and extensions: the server joins them, or compares what the client sends with them."""

import tarfile

import pytest

from datas3t import v1
from datas3t.archive import checksums, names
from datas3t.server import aggregates
from datas3t.server.aggregates import joined
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.objects.checks import InvalidUploadError
from tests.support.aggregates import aggregate, make_all_due, merge, rows, send_merged, start, stored
from tests.support.uploads import Archive, Site, archive, put

ARCHIVES = [archive(1, b"one", b"", b"three"), archive(4, b"four" * 200), archive(5, b"five", b"six")]
ALL = b"".join(each.checksums for each in ARCHIVES)


def upload_all(site: Site, *, without: int | None = None, extensions: tuple[str, ...] = ("bin",) * 3) -> None:
    for number, (each, extension) in enumerate(zip(ARCHIVES, extensions, strict=True)):
        site.upload(each, None if number == without else b"", extension)


def start_merged(site: Site, given: bytes | None) -> tuple[int, list[str]]:
    """Start an aggregate and send what a client has merged, with checksums if they are given."""
    new = merge([each.data for each in ARCHIVES], dialect=tarfile.USTAR_FORMAT)
    started = start(site, 1, 6, with_checksums=given is not None)
    assert bool(started.checksums_put_url) == (given is not None)
    if given is not None:
        put(aggregates.sign_parts(site.resources, started.aggregate.id, []).checksums_put_url, given)
    return send_merged(started, new)


def check_result(site: Site, expected: bytes | None, extension: str | None = "bin") -> None:
    """Check the only datarange, and that nothing of the sources is left once their URLs have expired."""
    (row,) = rows(site)
    assert row.extension == extension
    objects = [row.data_object_key, row.index_object_key]
    if expected is None:
        assert row.checksums_etag is None
    else:
        objects.append(row.checksums_object_key)
        stored_object = site.s3.head_object(Bucket=site.bucket, Key=row.checksums_object_key)
        assert row.checksums_etag == stored_object["ETag"].strip('"')
        assert stored(site, row.checksums_object_key) == expected
    make_all_due(site)
    site.sweep()
    assert site.objects() == sorted(objects)


@pytest.mark.parametrize("piece", [joined._PIECE, 2])
def test_a_planned_aggregate_has_the_checksums_of_its_sources(
    site: Site, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_PIECE", piece)
    upload_all(site)
    aggregate_id = aggregate(site, 1, 6)
    aggregates.complete(site.resources, aggregate_id, [])
    check_result(site, ALL)


def test_a_planned_aggregate_has_none_if_one_source_has_none(site: Site) -> None:
    upload_all(site, without=1, extensions=("bin", "bin", ""))
    aggregate(site, 1, 6)
    check_result(site, None, None)


def test_a_merged_aggregate_without_checksums_gets_those_of_its_sources(site: Site) -> None:
    upload_all(site)
    aggregates.complete(site.resources, *start_merged(site, None))
    check_result(site, ALL)


def test_a_merged_aggregate_has_the_checksums_that_the_client_sends(site: Site) -> None:
    upload_all(site, without=2, extensions=("", "", ""))
    aggregates.complete(site.resources, *start_merged(site, ALL), extension="bin")
    check_result(site, ALL)


def test_a_merged_aggregate_without_any_checksums_has_none(site: Site) -> None:
    upload_all(site, without=2)
    aggregates.complete(site.resources, *start_merged(site, None))
    check_result(site, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ALL[:-1], "the checksums object in the bucket has 23 bytes instead of 24"),
        (ALL[:-4] + b"\0\0\0\7", "datapoint 6 has the checksum .{8}, but 00000007 among the checksums"),
    ],
    ids=["short", "wrong"],
)
def test_wrong_checksums_of_a_merged_aggregate_are_refused(site: Site, given: bytes, message: str) -> None:
    upload_all(site)
    sent = start_merged(site, given)
    with pytest.raises(Failure, match=message) as caught:
        aggregates.complete(site.resources, *sent)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_INVALID
    site.sweep()
    assert [row.first_key for row in rows(site)] == [1, 4, 5]
    assert len(site.objects()) == 9


@pytest.mark.parametrize("first_has_some", [True, False])
def test_checksums_that_differ_from_those_of_the_sources_are_refused_although_the_contents_have_them(
    site: Site, first_has_some: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte was damaged before the client merged the archives, behind those that are compared with the source.

    Also if another source has no checksums.
    """
    monkeypatch.setattr(joined, "_PIECE", 2)
    whole = [archive(1, b"a" * 9000), archive(2, b"b" * 9000, b"c" * 9000)]
    site.upload(whole[0], b"" if first_has_some else None)
    site.upload(whole[1], b"")
    damaged = archive(2, b"b" * 9000, b"c" * 8999 + b"?")
    new = merge([whole[0].data, damaged.data], dialect=tarfile.USTAR_FORMAT)
    started = start(site, 1, 3, with_checksums=True)
    put(started.checksums_put_url, Archive(1, 3, new.data, new.index).checksums)
    with pytest.raises(Failure, match=r"datapoint 3 has the checksum .{8}, but .{8} in its source; start again"):
        aggregates.complete(site.resources, *send_merged(started, new))


def test_the_checksums_of_the_sources_find_a_byte_that_the_client_has_damaged(site: Site) -> None:
    whole = [archive(1, b"a" * 9000), archive(2, b"b" * 9000)]
    for each in whole:
        site.upload(each, b"")
    new = merge([whole[0].data, archive(2, b"b" * 8999 + b"?").data], dialect=tarfile.USTAR_FORMAT)
    with pytest.raises(Failure, match="datapoint 2 has the checksum") as caught:
        aggregates.complete(site.resources, *send_merged(start(site, 1, 2), new))
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_INVALID
    site.sweep()
    assert len(site.objects()) == 6


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "merged"])
def test_checksums_of_a_source_that_are_missing_are_an_error_that_names_them(site: Site, planned: bool) -> None:
    upload_all(site)
    key = rows(site)[1].checksums_object_key
    content = stored(site, key)
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    with pytest.raises(Failure, match="is missing or was changed") as caught:
        aggregate(site, 1, 6) if planned else aggregates.complete(site.resources, *start_merged(site, ALL))
    assert (caught.value.reason, caught.value.metadata["object_key"]) == (v1.ERROR_REASON_OBJECT_CHANGED, key)
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=content)
    with site.resources.pool.connection() as conn:
        ((aggregate_id,),) = conn.execute("SELECT id FROM aggregate_uploads").fetchall()
    aggregates.cancel(site.resources, aggregate_id)
    site.sweep()
    assert len(site.objects()) == 9


def test_an_extension_that_a_source_has_and_another_has_not_is_not_told_of_the_aggregate(site: Site) -> None:
    upload_all(site, extensions=("bin", "", "bin"))
    with pytest.raises(Failure, match="'jpg' was told of all entries, but those of a source have 'bin'"):
        aggregates.complete(site.resources, *start_merged(site, None), extension="jpg")
    aggregate(site, 1, 6)
    check_result(site, ALL, None)


def test_sources_are_answered_with_their_checksums(site: Site) -> None:
    upload_all(site, without=1)
    sources = start(site, 1, 6).sources
    assert [bool(each.checksums_url) for each in sources] == [True, False, True]
    assert names.checksums_key(sources[0].datarange.data_object_key) in sources[0].checksums_url
    assert checksums.decode(ALL)[1] == 0


@pytest.mark.parametrize(
    ("known", "told", "outcome"),
    [
        (("bin", "bin"), "png", "bin"),
        (("bin", "jpg"), "bin", None),
        (("bin", "jpg"), None, None),
        (("bin", None), "bin", "bin"),
        (("bin", None), None, None),
        ((None, None), "bin", "bin"),
        (("bin", None), "jpg", InvalidUploadError),
        (("bin", "jpg", None), "jpg", InvalidUploadError),
    ],
)
def test_the_extension_is_that_of_all_sources_or_else_what_was_told(
    known: tuple[str | None, ...], told: str | None, outcome: str | type[Exception] | None
) -> None:
    sources = [Datarange(1, 1, 1, "a.tar", "a.index", 2048, 1024, "", "", extension=each) for each in known]
    if outcome is InvalidUploadError:
        with pytest.raises(InvalidUploadError, match="'jpg' was told of all entries, but those of a source have 'bin'"):
            joined.common_extension(sources, told)
    else:
        assert joined.common_extension(sources, told) == outcome
