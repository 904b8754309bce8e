"""Concurrent uploads: one is committed, the others fail, and none of their objects are left."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from datas3t import v1
from datas3t.server import dataranges, datas3ts, uploads
from tests.support.uploads import DONE, Site, archive, large_archive, run_concurrently


def completion(site: Site, upload_id: int, etags: list[str]) -> Callable[[], None]:
    return lambda: uploads.complete(site.resources, upload_id, etags)


def keys(site: Site) -> list[tuple[int, int]]:
    rows, _ = dataranges.page(site.resources, site.datas3t, 0, "")
    return [(row.first_key, row.last_key) for row in rows]


def test_exactly_one_of_sixteen_overlapping_uploads_is_committed(site: Site) -> None:
    sent = [site.send(archive(100 - n, *[b"x"] * 17)) for n in range(16)]
    results = run_concurrently([completion(site, *each) for each in sent])
    assert sorted(results) == [DONE] + [v1.ERROR_REASON_DATARANGE_OVERLAPS] * 15
    winner = 100 - results.index(DONE)
    assert keys(site) == [(winner, winner + 16)]
    assert site.sweep() == 30
    assert len(site.objects()) == 2


@pytest.mark.parametrize("make", [archive, large_archive], ids=["one PUT", "parts"])
def test_eight_concurrent_completions_of_one_upload_make_one_datarange(site: Site, make: Callable[..., object]) -> None:
    upload_id, etags = site.send(archive(1, b"content") if make is archive else large_archive(1))
    assert run_concurrently([completion(site, upload_id, etags)] * 8) == [DONE] * 8
    assert len(keys(site)) == 1
    site.sweep()
    assert len(site.objects()) == 2


@pytest.mark.parametrize("attempt", range(4))
def test_an_upload_is_completed_or_cancelled_but_never_both(site: Site, attempt: int) -> None:
    upload_id, etags = site.send(archive(1, b"content"))
    completed, cancelled = run_concurrently(
        [completion(site, upload_id, etags), lambda: uploads.cancel(site.resources, upload_id)]
    )
    site.sweep()
    if completed == DONE:
        assert cancelled == v1.ERROR_REASON_UPLOAD_COMPLETED
        assert (len(keys(site)), len(site.objects())) == (1, 2)
    else:
        assert (completed, cancelled) == (v1.ERROR_REASON_UPLOAD_CANCELLED, DONE)
        assert (keys(site), site.objects()) == ([], [])


@pytest.mark.parametrize("attempt", range(3))
def test_a_clear_during_completions_leaves_no_object_without_a_row(site: Site, attempt: int) -> None:
    sent = [site.send(archive(n * 10, b"content")) for n in range(6)]
    results = run_concurrently([*(completion(site, *each) for each in sent), site.clear])
    assert set(results) <= {DONE, v1.ERROR_REASON_UPLOAD_CANCELLED}
    site.sweep()
    assert len(site.objects()) == 2 * len(keys(site))


def test_concurrent_starts_get_different_counters(site: Site) -> None:
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(lambda _: site.start(archive(1, b"content")), range(32)))
    assert len({each.upload.data_object_key for each in started}) == 32


def test_eight_concurrent_adds_of_a_datas3t_make_one(site: Site) -> None:
    calls = [lambda: datas3ts.add(site.resources, "new", "local")] * 8
    assert run_concurrently(calls) == [DONE] * 8
    assert [row.datas3t_name for row in datas3ts.page(site.resources, 0, "")[0]] == ["images", "new"]
