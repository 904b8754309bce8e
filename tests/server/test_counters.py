"""The numbers in the row of a datas3t are always those of its dataranges, whatever inserts or deletes them."""

import contextlib
import random
from collections.abc import Callable
from functools import partial

import pytest

from datas3t.server import aggregates, dataranges, datas3ts, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from tests.support.aggregates import aggregate, bounds, merge, send_merged, start
from tests.support.counters import wrong_counters
from tests.support.importing import import_bucket, put_archive
from tests.support.uploads import Archive, Site, archive, run_concurrently

COUNTERS_OF_OTHERS = 1000  # of archives that someone else has put into the bucket


def some_archive(source: random.Random) -> Archive:
    return archive(source.randrange(0, 30), *(source.randbytes(source.randrange(900)) for _ in range(4)))


def upload(site: Site, source: random.Random) -> None:
    site.upload(some_archive(source))


def fail(site: Site, source: random.Random) -> None:
    upload_id, _ = site.send(some_archive(source))
    uploads.complete(site.resources, upload_id, ["too", "many"])


def delete(site: Site, source: random.Random) -> None:
    for first, last in source.sample(bounds(site), 1):
        dataranges.delete(site.resources, site.datas3t, first, last)


def aggregate_all(site: Site, source: random.Random) -> None:
    first = source.randrange(100, 200)
    one, two = archive(first, b"one"), archive(first + 1, b"two")
    for each in (one, two):
        site.upload(each)
    if source.random() < 0.5:
        aggregate(site, first, first + 1)
    else:
        started = start(site, first, first + 1)
        aggregates.complete(site.resources, *send_merged(started, merge([one.data, two.data], first=first)))


def import_more(site: Site, source: random.Random) -> None:
    put_archive(site, some_archive(source), source.randrange(COUNTERS_OF_OTHERS))
    import_bucket(site)


def clear(site: Site, _: random.Random) -> None:
    site.clear()


def delete_and_add(site: Site, _: random.Random) -> None:
    site.clear()
    site.delete()
    site.add()


def sweep(site: Site, _: random.Random) -> None:
    site.sweep()


ACTS: list[Callable[[Site, random.Random], None]] = [
    *[upload] * 6, fail, *[delete] * 3, *[aggregate_all] * 2, import_more, clear, delete_and_add, sweep,
]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_after_random_operations_the_numbers_are_the_sums(site: Site, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(30):
        act = source.choice(ACTS)
        with contextlib.suppress(Failure, ValueError):  # such as an overlap, or no datarange to delete
            act(site, source)
        with connection(site.resources.pool) as conn:
            assert wrong_counters(conn) == [], act.__name__


def test_after_concurrent_operations_the_numbers_are_the_sums(site: Site) -> None:
    sent = [site.send(archive(first, b"content")) for first in range(1, 17)]
    for upload_id, etags in sent[:8]:
        uploads.complete(site.resources, upload_id, etags)

    def complete(upload_id: int, etags: list[str]) -> None:
        uploads.complete(site.resources, upload_id, etags)

    calls: list[Callable[[], object]] = [partial(complete, *each) for each in sent[8:]]
    calls += [partial(dataranges.delete, site.resources, "images", key, key) for key in range(1, 9)]
    assert run_concurrently(calls) == [0] * 16
    with connection(site.resources.pool) as conn:
        assert wrong_counters(conn) == []
    ((row,), _) = datas3ts.page(site.resources, 0, "")
    assert (row.datarange_count, row.lowest_datapoint, row.highest_datapoint) == (8, 9, 16)
