"""Ranges that can be aggregated, compared with a simple implementation that tries all."""

import random
from itertools import combinations

import pytest

from datas3t import v1
from datas3t.archive.parts import MAX_PARTS, MIN_PART
from datas3t.server.aggregates.ranges import Bounds, find_problem, nearest
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from tests.support.aggregates import start, upload_some
from tests.support.uploads import Site, archive

MAX_KEY = (1 << 63) - 1


def all_ranges(bounds: list[Bounds]) -> list[Bounds]:
    """Return all ranges that can be aggregated."""
    return [
        (bounds[i][0], bounds[j][1])
        for i, j in combinations(range(len(bounds)), 2)
        if all(bounds[n][1] + 1 == bounds[n + 1][0] for n in range(i, j))
    ]


def random_bounds(source: random.Random) -> list[Bounds]:
    bounds, key = [], 0
    for _ in range(source.randint(0, 8)):
        key += source.choice([0, 0, 0, 1, 5])
        last = key + source.randint(0, 6)
        bounds.append((key, last))
        key = last + 1
    return bounds


def test_no_other_range_is_nearer_than_the_nearest() -> None:
    for seed in range(500):
        check_nearest(random.Random(seed))


def check_nearest(source: random.Random) -> None:
    bounds = random_bounds(source)
    first = source.randint(0, 60)
    last = first + source.randint(0, 60)

    def distance(each: Bounds) -> int:
        return abs(each[0] - first) + abs(each[1] - last)

    result, possible = nearest(bounds, first, last), all_ranges(bounds)
    within = [each for each in bounds if each[0] <= last and each[1] >= first]
    assert (find_problem(within, first, last) is None) == ((first, last) in possible)
    if not possible:
        assert result is None
    else:
        assert result in possible
        assert distance(result) == min(map(distance, possible))


@pytest.mark.parametrize(
    ("first", "last", "why", "better"),
    [
        (2, 9, "it cuts through the datarange from 1 to 3", (1, 9)),
        (1, 8, "it cuts through the datarange from 7 to 9", (1, 9)),
        (1, 3, "it holds one datarange, but at least two", (1, 6)),
        (100, 200, "it holds no datarange, but at least two", (4, 9)),
        (0, 9, "it has no datapoints from 0 to 0", (1, 9)),
        (1, 12, "it has no datapoints from 10 to 12", (1, 9)),
        (1, 22, "it has no datapoints from 10 to 19", (1, 9)),
    ],
)
def test_the_message_names_the_problem_and_the_nearest_range(
    site: Site, first: int, last: int, why: str, better: Bounds
) -> None:
    upload_some(site, 3)
    upload_some(site, 1, first=20)
    with pytest.raises(Failure, match=why) as caught:
        start(site, first, last)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT
    metadata = caught.value.metadata
    assert (metadata["nearest_first"], metadata["nearest_last"]) == (str(better[0]), str(better[1]))
    assert caught.value.message.endswith(f"; the nearest range that can be aggregated is {better[0]} to {better[1]}")


def test_no_range_is_suggested_if_none_can_be_aggregated(site: Site) -> None:
    for first in (1, 10):
        site.upload(archive(first, b"content"))
        with pytest.raises(Failure, match="no other range of this datas3t can be aggregated either") as caught:
            start(site, 1, 1)
        assert "nearest_first" not in caught.value.metadata


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [(5, 4, "last_datapoint_index"), (MAX_KEY + 1, MAX_KEY + 2, "first_datapoint_index"), (1, 1 << 63, "last")],
)
def test_keys_out_of_range_are_refused(site: Site, first: int, last: int, field: str) -> None:
    with pytest.raises(Failure) as caught:
        start(site, first, last)
    assert caught.value.reason == v1.ERROR_REASON_INVALID_VALUE
    assert caught.value.metadata["field"].startswith(field)


def test_the_greatest_key_can_be_aggregated(site: Site) -> None:
    site.upload(archive(MAX_KEY - 1, b"one"))
    site.upload(archive(MAX_KEY, b"two"))
    assert start(site, MAX_KEY - 1, MAX_KEY).aggregate.last_key == MAX_KEY


def test_a_refused_start_leaves_nothing(site: Site) -> None:
    upload_some(site, 2)
    with pytest.raises(Failure):
        start(site, 1, 5)
    assert site.multiparts() == []
    with connection(site.resources.pool) as conn:
        assert conn.execute("SELECT count(*) FROM aggregate_uploads").fetchone() == (0,)


def test_a_range_whose_index_is_too_large_for_s3_is_refused(site: Site) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                                       entries_size_bytes, data_etag, index_etag)
               SELECT catalogue_id, n * 120000000, n * 120000000 + 119999999, 'a' || n, 'b' || n,
                      61440001024, 61440000000, '', ''
                 FROM datas3ts, generate_series(0, 3) AS n"""
        )
    for planned in (True, False):
        with pytest.raises(
            Failure, match="index would have 7680000000 bytes, but S3 accepts at most 5368709120"
        ) as caught:
            start(site, 0, 479_999_999, planned=planned)
        assert caught.value.metadata["nearest_last"] == "239999999"
        assert start(site, 0, 239_999_999, planned=planned).aggregate.id


def test_a_range_with_too_many_parts_for_s3_is_refused_with_the_longest_that_fits(site: Site) -> None:
    with connection(site.resources.pool) as conn:
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                                       entries_size_bytes, data_etag, index_etag)
               SELECT catalogue_id, n, n, 'a' || n, 'b' || n, %(size)s + 1024, %(size)s, '', ''
                 FROM datas3ts, generate_series(1, 10500) AS n""",
            {"size": MIN_PART},
        )
    with pytest.raises(Failure, match="but S3 allows 10000") as caught:
        start(site, 1, 10_500, planned=True)
    most = int(caught.value.metadata["nearest_last"])
    assert most == MAX_PARTS - 1  # one part is the end marker
    assert start(site, 1, most, planned=True).part_count == MAX_PARTS
    assert start(site, 1, 10_500).part_count < MAX_PARTS
